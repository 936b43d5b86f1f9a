"""Patients and findings in file names."""

from __future__ import annotations

from collections import defaultdict

import pytest
from helpers.kaggle_names import read_kaggle_names

from cxr_tfds.sources.kermany import FINDINGS, parse_name


@pytest.mark.parametrize(
    ("name", "patient", "finding"),
    [
        ("person12_bacteria_34.jpeg", "bacteria-12", "bacteria"),
        ("person12_virus_34.jpeg", "virus-12", "virus"),  # not the patient bacteria-12
        ("person1_bacteria_1", "bacteria-1", "bacteria"),
        ("person1_bacteria_1 (1).jpeg", "bacteria-1", "bacteria"),  # a browser's second download
        ("Person3_Virus_7.JPG", "virus-3", "virus"),
        ("IM-0115-0001.jpeg", "IM-0115", "none"),
        ("IM-0430-0001-0002.jpeg", "IM-0430", "none"),  # several images of one study
        ("NORMAL2-IM-0115-0001.jpeg", "NORMAL2-IM-0115", "none"),  # not the patient IM-0115
        ("normal2-im-0115-0001.png", "NORMAL2-IM-0115", "none"),
        ("person12_fungus_3.jpeg", "", None),
        ("person_bacteria_3.jpeg", "", None),
        ("person12_bacteria.jpeg", "", None),
        ("IM-0115.jpeg", "", None),
        ("myperson12_bacteria_34.jpeg", "", None),
        ("radiograph.jpeg", "", None),
        ("", "", None),
    ],
)
def test_parse_name(name: str, patient: str, finding: str | None) -> None:
    assert parse_name(name) == (patient, finding)


def test_parses_all_kaggle_names() -> None:
    images = read_kaggle_names()
    labels: dict[str, set[str]] = defaultdict(set)
    for image in images:
        assert image.patient_id, image.image_id
        assert image.finding in FINDINGS
        assert (image.finding == "none") == (image.label == "NORMAL"), image.image_id
        labels[image.patient_id].add(image.label)
    assert len(labels) > 1000
    assert all(len(of_patient) == 1 for of_patient in labels.values())
