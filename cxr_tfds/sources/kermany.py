"""What the file names of the Kermany et al. 2018 pneumonia radiographs tell.

The images are sold under several names on Kaggle; the file names stayed the same.
Source: Kermany, Zhang, Goldbaum (2018), https://doi.org/10.17632/rscbjbr9sj.2
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from cxr_tfds.sources import SourceFile, SourceImage

FINDINGS = ("none", "bacteria", "virus")
PATIENT_NAMES = "person12_bacteria_34.jpeg, IM-0115-0001.jpeg, NORMAL2-IM-0927-0001.jpeg"

# Only type and number together name a patient: of the numbers 170 occur in train and in test,
# never with the same type.
_PNEUMONIA = re.compile(r"person(\d+)_(bacteria|virus)_\d+", re.IGNORECASE)
_NORMAL = re.compile(r"((?:NORMAL2-)?IM-\d+)-\d+", re.IGNORECASE)


class NameParts(NamedTuple):
    """`patient_id` is "" and `finding` None where the name does not tell."""

    patient_id: str
    finding: str | None


def parse_name(name: str) -> NameParts:
    """Patient and finding from a file name such as `person12_bacteria_34.jpeg` or `IM-0115-0001.jpeg`."""
    if match := _PNEUMONIA.match(name):
        number, finding = match.group(1), match.group(2).lower()
        return NameParts(f"{finding}-{number}", finding)
    if match := _NORMAL.match(name):
        return NameParts(match.group(1).upper(), "none")
    return NameParts("", None)


def described(files: Iterable[SourceFile]) -> list[SourceImage]:
    """The files with what their names tell."""
    images = []
    for file in files:
        parts = parse_name(file.path.name)
        images.append(
            SourceImage(
                file.path,
                file.split,
                file.class_name,
                parts.finding,
                file.image_id,
                parts.patient_id,
            )
        )
    return images
