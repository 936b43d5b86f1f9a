"""Patients and findings from file names."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxr_tfds.sources.kermany import FINDINGS, parse_name


@pytest.mark.parametrize(
    ("name", "patient", "finding"),
    [
        ("person12_bacteria_34.jpeg", "bacteria-12", "bacteria"),
        ("person12_virus_34.jpeg", "virus-12", "virus"),  # another patient than bacteria-12
        ("person1_bacteria_1", "bacteria-1", "bacteria"),
        ("person1_bacteria_1 (1).jpeg", "bacteria-1", "bacteria"),  # a browser's second download
        ("Person3_Virus_7.JPG", "virus-3", "virus"),
        ("IM-0115-0001.jpeg", "IM-0115", "none"),
        ("IM-0430-0001-0002.jpeg", "IM-0430", "none"),  # several images of one study
        ("NORMAL2-IM-0115-0001.jpeg", "NORMAL2-IM-0115", "none"),  # another patient than IM-0115
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


def test_real_names_parse_and_no_patient_is_in_train_and_test(shared_data: Path) -> None:
    root = shared_data / "kermany_224" / "chest_xray"
    patients: dict[str, set[str]] = {"train": set(), "test": set()}
    for split, seen in patients.items():
        for path in root.glob(f"{split}/*/*.jpeg"):
            patient, finding = parse_name(path.name)
            assert patient, path.name
            assert finding in FINDINGS
            assert (finding == "none") == (path.parent.name == "NORMAL"), path
            seen.add(patient)
    assert len(patients["train"]) > 1000
    assert not patients["train"] & patients["test"]
