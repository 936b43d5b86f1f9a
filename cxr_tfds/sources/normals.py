"""Draws normal radiographs from a Kaggle pneumonia folder, for a source that has none."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from cxr_tfds.errors import MissingData
from cxr_tfds.sources.image import SourceImage
from cxr_tfds.sources.kermany import parse_names
from cxr_tfds.sources.layout import scan_splits

_CLASSES = ("NORMAL", "PNEUMONIA")
_SPELLINGS = {"Opacity": "PNEUMONIA"}  # in pcbreviglieri/pneumonia-xray-images


def find_normals(sources: Sequence[Path], remedy: str) -> tuple[Path, list[SourceImage]]:
    """Returns the first source that is a Kaggle pneumonia folder, and its normal radiographs.

    Raises:
      MissingData: There is no such source. The message ends with `remedy`.
      InputError: The folder is incomplete, see `cxr_tfds.sources.scan_splits`.
    """
    for source in sources:
        try:
            images = scan_splits(source, "chest_xray", _CLASSES, _SPELLINGS).images
        except MissingData:
            continue
        return source, parse_names(image for image in images if image.label == "NORMAL")
    folders = "\n".join(f"  {source}" for source in sources)
    raise MissingData(f"No normal radiographs. Searched for train/NORMAL in\n{folders}\n{remedy}")


def draw_normals(images: Sequence[SourceImage], count: int, seed: int) -> list[SourceImage]:
    """Returns up to `count` images, one of each patient before a second one of any.

    Patients and their images are ordered by a hash. The order is the same on every machine and
    changes little when images are added.
    """
    by_patient: dict[str, list[SourceImage]] = defaultdict(list)
    for image in sorted(images, key=lambda image: _hash(seed, image.image_id)):
        by_patient[image.patient_id or image.image_id].append(image)
    rounds = [
        (number, _hash(seed, patient), image)
        for patient, own_images in by_patient.items()
        for number, image in enumerate(own_images)
    ]
    return [image for _, _, image in sorted(rounds, key=lambda item: item[:2])[:count]]


def _hash(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed} {text}".encode()).digest()
