"""Normal radiographs from a Kaggle pneumonia folder, to stand against a finding whose source has none."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from cxr_tfds.errors import MissingData
from cxr_tfds.sources import SourceFile, scan_splits
from cxr_tfds.sources.kermany import parse_name

_CLASSES = ("NORMAL", "PNEUMONIA")
_SPELLINGS = {"Opacity": "PNEUMONIA"}  # in pcbreviglieri/pneumonia-xray-images


def find_normals(places: Sequence[Path], remedy: str) -> tuple[Path, list[SourceFile]]:
    """The first of `places` that holds a Kaggle pneumonia folder, and its normal radiographs of all splits.

    Raises:
      MissingData: none of them does; the message ends with `remedy`.
      InputError: the folder is not whole, see `cxr_tfds.sources.scan_splits`.
    """
    for place in places:
        try:
            files = scan_splits(place, "chest_xray", _CLASSES, spellings=_SPELLINGS)
        except MissingData:
            continue
        return place, [file for file in files if file.class_name == "NORMAL"]
    looked = "\n".join(f"  {place}" for place in places)
    raise MissingData(f"No normal radiographs. Looked for train/NORMAL in\n{looked}\n{remedy}")


def draw_normals(files: Sequence[SourceFile], count: int, seed: int) -> list[SourceFile]:
    """`count` of the files, or all if there are fewer; one of each patient before a second of any.

    Patients and their images come in the order of a hash, which is the same on every machine and moves
    little when images are added.
    """
    by_patient: dict[str, list[SourceFile]] = defaultdict(list)
    for file in sorted(files, key=lambda file: _order(seed, file.image_id)):
        by_patient[normal_patient(file) or file.image_id].append(file)
    turns = [
        (turn, _order(seed, patient), file)
        for patient, of_patient in by_patient.items()
        for turn, file in enumerate(of_patient)
    ]
    return [file for _, _, file in sorted(turns, key=lambda item: item[:2])[:count]]


def normal_patient(file: SourceFile) -> str:
    """The patient as the name tells, "" if it does not."""
    return parse_name(file.path.name).patient_id


def _order(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed} {text}".encode()).digest()
