"""Builds of drawn DICOM files with the tables of the RSNA challenge."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.sources import DrawnSource, build, dicom_file, published, read

from cxr_tfds.builders.rsna_pneumonia.rsna_pneumonia_dataset_builder import (
    DETAILS,
    MAPPING,
    Builder,
)
from cxr_tfds.errors import InputError, MissingData

pytest.importorskip("pydicom")
LABELS = "stage_2_train_labels.csv"
BOXES = ["264,152,213,379", "562,152,256,453"]
KINDS = ("Normal", "Lung Opacity", "No Lung Opacity / Not Normal", "Lung Opacity")


def name(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-{number:012x}"


def draw(folder: Path) -> Path:
    """Draws 20 images without and 20 with an opacity, every other one in two boxes, and 5 tests."""
    labels, details = ["patientId,x,y,width,height,Target"], ["patientId,class"]
    for number in range(45):
        random = np.random.default_rng(number)
        part = "train" if number < 40 else "test"
        path = folder / f"stage_2_{part}_images" / f"{name(number)}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dicom_file(random.integers(0, 256, (30, 40), np.uint8)))
        if part == "test":
            continue
        boxes = BOXES[: 1 + (number % 4 == 3)] if number % 2 else [",,,"]
        labels += [f"{name(number)},{box},{number % 2}" for box in boxes]
        details += [f"{name(number)},{KINDS[number % 4]}" for _ in boxes]
    (folder / LABELS).write_text("\n".join(labels))
    (folder / DETAILS).write_text("\n".join(details))
    (folder / "stage_2_sample_submission.csv").write_text("patientId,PredictionString\n")
    return folder


@pytest.mark.slow
class RsnaPneumoniaTest(DrawnSource, tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 28, "validation": 4, "test": 8}  # noqa: RUF012
    draw = staticmethod(draw)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source; read-only."""
    return draw(tmp_path_factory.mktemp("source"))


def copy(source: Path, folder: Path) -> Path:
    return Path(shutil.copytree(source, folder / "copy"))


def read_all(builder: Any) -> dict[str, dict[str, Any]]:
    records = read(builder.data_path)
    return {image_id: e for examples in records.values() for image_id, e in examples.items()}


def read_notes(builder: Any) -> str:
    report = json.loads((builder.data_path / "build_report.json").read_text(encoding="utf-8"))
    return "\n".join(report["notes"])


@pytest.mark.slow
def test_reads_labels_and_detailed_classes(source: Path, tmp_path: Path) -> None:
    builder = build(Builder, source, tmp_path)
    features = builder.info.features
    assert features["label"].names == ["No Lung Opacity", "Lung Opacity"]
    assert features["finding"].names == ["Normal", "No Lung Opacity / Not Normal", "Lung Opacity"]
    examples = read_all(builder)
    assert len(examples) == 40
    rows = {number: examples[f"stage_2_train_images/{name(number)}.dcm"] for number in (0, 1, 2, 3)}
    found = {number: (row["label"], row["finding"]) for number, row in rows.items()}
    assert found == {0: (0, 0), 1: (1, 2), 2: (0, 1), 3: (1, 2)}
    assert rows[3]["patient_id"] == name(3).encode()
    notes = read_notes(builder)
    assert "Images with several rows: 10. Rule: repeated_rows='any'." in notes
    assert "test images of the challenge, whose labels are not published: 5 (stage_2_test" in notes
    assert f"No {MAPPING}: each image counts as a patient" in notes


@pytest.mark.slow
def test_an_image_has_an_opacity_if_any_row_has(source: Path, tmp_path: Path) -> None:
    changed = copy(source, tmp_path)
    with (changed / LABELS).open("a") as file:
        file.write(f"\n{name(0)},1,1,9,9,1")
    with pytest.raises(InputError, match="rows contradict each other"):
        build(Builder, changed, tmp_path / "data", repeated_rows="same")
    examples = read_all(build(Builder, changed, tmp_path / "data"))
    assert examples[f"stage_2_train_images/{name(0)}.dcm"]["label"] == 1


@pytest.mark.slow
def test_keeps_patients_of_nih_in_one_split(source: Path, tmp_path: Path) -> None:
    changed = copy(source, tmp_path)
    rows = [
        {"subset_img_id": name(number), "img_id": f"{number // 4 + 1:08d}_{number % 4:03d}.png"}
        for number in range(40)
    ]
    (changed / MAPPING).write_text(json.dumps(rows))
    builder = build(Builder, changed, tmp_path / "data")
    splits = [
        {example["patient_id"] for example in examples.values()}
        for examples in read(builder.data_path).values()
    ]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 10
    assert b"nih-00000001" in set.union(*splits)
    assert f"Patients from {MAPPING}." in read_notes(builder)


@pytest.mark.slow
def test_findings_are_unknown_without_the_detailed_classes(source: Path, tmp_path: Path) -> None:
    changed = copy(source, tmp_path)
    (changed / DETAILS).unlink()
    builder = build(Builder, changed, tmp_path / "data")
    assert {example["finding"] for example in read_all(builder).values()} == {-1}
    assert f"No {DETAILS}: the findings are unknown." in read_notes(builder)


@pytest.mark.slow
def test_builds_three_classes(source: Path, tmp_path: Path) -> None:
    classes = list(Builder.FINDINGS)
    builder = build(
        Builder, source, tmp_path, table=DETAILS, label="class", classes=classes, negative="Normal"
    )
    assert builder.info.features["label"].names == classes
    assert all(example["label"] == example["finding"] for example in read_all(builder).values())


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            LABELS,
            "patientId,Target\nnowhere,1\n",
            "No row of stage_2_train_labels.csv has an image",
        ),
        (LABELS, "patientId,x\na,1\n", "stage_2_train_labels.csv: no such column"),
        (MAPPING, "{", "is corrupt: not valid JSON"),
        (MAPPING, '[{"img_id": "1"}]', "lacks the key `subset_img_id`"),
        (
            DETAILS,
            f"patientId,class\n{name(0)},Normal\n{name(1)},Flu\n",
            r"line 3: the class 'Flu'",
        ),
        (DETAILS, f"patientId,class\n{name(0)},Normal\n{name(0)},Lung Opacity\n", "another class"),
    ],
)
def test_refuses_bad_tables(
    file: str, text: str, message: str, source: Path, tmp_path: Path
) -> None:
    changed = copy(source, tmp_path)
    (changed / file).write_text(text)
    with pytest.raises(InputError, match=message):
        build(Builder, changed, tmp_path / "data")
    assert not published(tmp_path / "data")


def test_reports_a_missing_table(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(MissingData, match=r"No table stage_2_train_labels\.csv(.*\n)+Get the data"):
        build(Builder, tmp_path / "source", tmp_path / "data")
