"""Reads patient and finding from the file names of the Kermany et al. 2018 pneumonia radiographs.

Kaggle offers the images under several names; the file names are the same everywhere.
Source: Kermany, Zhang, Goldbaum (2018), https://doi.org/10.17632/rscbjbr9sj.2
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from cxr_tfds.sources.image import SourceImage

FINDINGS = ("none", "bacteria", "virus")
PATIENT_NAMES = "person12_bacteria_34.jpeg, IM-0115-0001.jpeg, NORMAL2-IM-0927-0001.jpeg"

# A patient is a type and a number: 170 numbers occur in both train and test, never with one type.
_PNEUMONIA = re.compile(r"person(\d+)_(bacteria|virus)_\d+", re.IGNORECASE)
_NORMAL = re.compile(r"((?:NORMAL2-)?IM-\d+)-\d+", re.IGNORECASE)


def parse_name(name: str) -> tuple[str, str | None]:
    """Returns patient (or "") and finding (or None) of a name like `person12_bacteria_34.jpeg`."""
    if match := _PNEUMONIA.match(name):
        finding = match[2].lower()
        return f"{finding}-{match[1]}", finding
    if match := _NORMAL.match(name):
        return match[1].upper(), "none"
    return "", None


def parse_names(images: Iterable[SourceImage]) -> list[SourceImage]:
    """Returns the images with the patient and finding of their file names."""
    parsed = ((image, *parse_name(image.path.name)) for image in images)
    return [
        image._replace(patient_id=patient, finding=finding) for image, patient, finding in parsed
    ]
