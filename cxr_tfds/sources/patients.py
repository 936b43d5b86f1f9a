"""Recognizes patients in the file names of published datasets, wherever such files occur."""

from __future__ import annotations

import re

from cxr_tfds.sources import kermany

_PATTERNS = (
    # NIH ChestX-ray14: 00000013_002.png. Its patients are numbered up to 30,805.
    # https://arxiv.org/abs/1705.02315
    ("nih", re.compile(r"(?:^|/)(000\d{5})_\d{3}\.[^/]*$")),
    # CheXpert: patient00001/study1/view1_frontal.jpg. https://arxiv.org/abs/1901.07031
    ("chexpert", re.compile(r"(?:^|/)patient(\d{5})/", re.IGNORECASE)),
    # Montgomery and Shenzhen: MCUCXR_0001_0.png, CHNCXR_0327_1.png, one image of each patient.
    # https://doi.org/10.3978/j.issn.2223-4292.2014.11.20
    ("tb", re.compile(r"(?:^|/)((?:MCUCXR|CHNCXR)_\d{4})_[01]\.[^/]*$")),
)
EXAMPLES = f"{kermany.PATIENT_NAMES}, 00000013_002.png, patient00001/study1/…, MCUCXR_0001_0.png"


def find_patient(path: str) -> str:
    """Returns the patient in a path below a source, such as `nih-00000013`, or "" if unknown."""
    name = path.rpartition("/")[2]
    patient, finding = kermany.parse_name(name)
    # Viewers of DICOM export names such as IM-0001-0001.jpg, in which the number is the series.
    if patient and (finding != "none" or name.casefold().endswith(".jpeg")):
        return patient
    for dataset, pattern in _PATTERNS:
        if match := pattern.search(path):
            return f"{dataset}-{match[1]}"
    return ""
