"""What the file names of the Kermany et al. 2018 pneumonia radiographs tell.

The images are sold under several names on Kaggle; the file names stayed the same.
Source: Kermany, Zhang, Goldbaum (2018), https://doi.org/10.17632/rscbjbr9sj.2
"""

from __future__ import annotations

import re
from typing import NamedTuple

FINDINGS = ("none", "bacteria", "virus")

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
