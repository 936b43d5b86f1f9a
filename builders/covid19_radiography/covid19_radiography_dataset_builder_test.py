"""Builds of drawn radiographs and masks in the folders of the COVID-19 Radiography Database."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from helpers.sources import DrawnSource, build, draw_image, published, read

from cxr_tfds.builders.covid19_radiography.covid19_radiography_dataset_builder import Builder
from cxr_tfds.errors import InputError, MissingData

FOLDERS = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
CLASSES = ["Normal", "COVID", "Lung_Opacity", "Viral Pneumonia"]
TOP = "COVID-19_Radiography_Dataset"


def draw(folder: Path) -> Path:
    """Draws 10 images and 10 masks of each class."""
    for class_name in FOLDERS:
        for number in range(1, 11):
            image = folder / TOP / class_name / "images" / f"{class_name}-{number}.png"
            draw_image(image)
            draw_image(image.parents[1] / "masks" / image.name, mode="RGB", size=(20, 20))
        (folder / TOP / f"{class_name}.metadata.xlsx").write_bytes(b"PK\3\4 not a table")
    (folder / TOP / "README.md.txt").write_text("COVID-19 CHEST X-RAY DATABASE")
    return folder


@pytest.mark.slow
class Covid19RadiographyTest(DrawnSource, tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 28, "validation": 4, "test": 8}  # noqa: RUF012
    draw = staticmethod(draw)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source; read-only."""
    return draw(tmp_path_factory.mktemp("source"))


def test_reads_four_classes_without_masks(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    builder = build(Builder, source, tmp_path)
    records = read(builder.data_path)
    assert builder.info.features["label"].names == CLASSES
    examples = {image_id: e for split in records.values() for image_id, e in split.items()}
    assert len(examples) == 40
    for number, class_name in enumerate(CLASSES):
        example = examples[f"{class_name}/images/{class_name}-7.png"]
        assert (example["label"], example["finding"]) == (number, number)
        assert (example["height"], example["width"], example["patient_id"]) == (30, 40, b"")
    for split in records.values():
        assert {example["label"] for example in split.values()} == {0, 1, 2, 3}
    report = json.loads((builder.data_path / "build_report.json").read_text(encoding="utf-8"))
    assert any("masks and annotations: 40 (COVID/masks/" in note for note in report["notes"])
    assert "40 of 40 images have no known patient" in caplog.text


def test_reads_the_zip(source: Path, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "archive"), "zip", source)
    records = read(build(Builder, tmp_path / "archive.zip", tmp_path / "data").data_path)
    assert sum(map(len, records.values())) == 40


@pytest.mark.slow
def test_selects_and_merges_classes(source: Path, tmp_path: Path) -> None:
    merged = {"Normal": ["Normal"], "Finding": ["COVID", "Viral Pneumonia"]}
    records = read(build(Builder, source, tmp_path, classes=merged).data_path)
    examples = {image_id: e for split in records.values() for image_id, e in split.items()}
    assert len(examples) == 30
    assert examples["Finding/COVID/images/COVID-1.png"]["label"] == 1
    # Without the setting `classes` the finding is the class; here it is the folder.
    found = {image_id.split("/")[1]: e["finding"] for image_id, e in examples.items() if e["label"]}
    assert found == {"COVID": 0, "Viral Pneumonia": 2}


def test_asks_for_a_selection_if_a_class_is_missing(source: Path, tmp_path: Path) -> None:
    first = Path(shutil.copytree(source, tmp_path / "first"))
    shutil.rmtree(first / TOP / "Lung_Opacity")
    with pytest.raises(InputError, match=r'no folder Lung_Opacity(.*\n)+.*"Viral Pneumonia"\]'):
        build(Builder, first, tmp_path / "data")
    assert not published(tmp_path / "data")


def test_reports_missing_data(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"(.*\n)+Get the data: kaggle datasets download"):
        build(Builder, tmp_path / "nowhere", tmp_path / "data")
