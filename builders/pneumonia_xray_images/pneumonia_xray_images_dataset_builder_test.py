"""Builds of drawn radiographs, with splits cut by patient and with the source's own splits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from helpers.sources import DrawnSource, build, draw_image, draw_source, read

from cxr_tfds.builders.pneumonia_xray_images.pneumonia_xray_images_dataset_builder import Builder
from cxr_tfds.errors import InputError

COPIES = (("Opacity", "person3_virus_900.jpeg"), ("Normal", "IM-0004-0002.jpeg"))


def draw(folder: Path) -> Path:
    """Draws 30 + 30 train, 2 + 2 val and 5 + 5 test images, and 2 patients of train in val."""
    drawn = draw_source(folder / "drawn") / "chest_xray"
    for split in ("train", "val", "test"):
        for own, name in (("NORMAL", "Normal"), ("PNEUMONIA", "Opacity")):
            (folder / split).mkdir(exist_ok=True)
            (drawn / split / own).rename(folder / split / name)
    shutil.rmtree(folder / "drawn")
    for class_name, name in COPIES:
        draw_image(folder / "val" / class_name / name)
    return folder


@pytest.mark.slow
class PneumoniaXrayImagesTest(DrawnSource, tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 60, "validation": 6, "test": 10}  # noqa: RUF012
    draw = staticmethod(draw)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source; read-only."""
    return draw(tmp_path_factory.mktemp("source"))


def read_shared_patients(builder: tfds.core.DatasetBuilder) -> dict[str, dict[str, list[str]]]:
    return json.loads((builder.data_path / "build_report.json").read_text(encoding="utf-8"))[
        "patients"
    ]


BOTH_SIDES = {"IM-0004": ["train", "validation"], "virus-3": ["train", "validation"]}


def test_cuts_validation_by_patient(source: Path, tmp_path: Path) -> None:
    builder = build(Builder, source, tmp_path)
    records = read(builder.data_path)
    assert builder.info.features["label"].names == ["Normal", "Opacity"]
    assert {image_id.split("/")[0] for image_id in records["test"]} == {"test"}
    splits_of: dict[bytes, set[str]] = {}
    for split, examples in records.items():
        for example in examples.values():
            splits_of.setdefault(example["patient_id"], set()).add(split)
    assert all(len(splits) == 1 for splits in splits_of.values())
    assert read_shared_patients(builder) == {
        "in_two_splits": {},
        "in_two_splits_of_the_source": BOTH_SIDES,
    }
    found = next(
        e["validation/Opacity/person3_virus_900.jpeg"]
        for e in records.values()
        if "validation/Opacity/person3_virus_900.jpeg" in e
    )
    assert (found["label"], found["finding"], found["patient_id"]) == (1, 2, b"virus-3")


def test_keeps_the_splits_of_the_source(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    builder = build(Builder, source, tmp_path, name="8-source", size=8, split="source")
    records = read(builder.data_path)
    for split, examples in records.items():
        assert {image_id.split("/")[0] for image_id in examples} == {split}
    assert len(records["validation"]) == 6
    assert read_shared_patients(builder)["in_two_splits"] == BOTH_SIDES
    assert (
        "PATIENTS IN TWO SPLITS (2):\n- IM-0004: train and validation\n" in capfd.readouterr().err
    )


def test_refuses_the_classes_of_the_other_kaggle_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"PNEUMONIA is not one of the classes Normal, Opacity"):
        build(Builder, draw_source(tmp_path / "other"), tmp_path / "data")
