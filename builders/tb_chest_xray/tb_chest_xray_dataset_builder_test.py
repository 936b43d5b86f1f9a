"""Builds of drawn radiographs with the names of the Montgomery and Shenzhen sets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tensorflow_datasets as tfds
from helpers.sources import DrawnSource, build, draw_image, published, read

from cxr_tfds.builders.tb_chest_xray.tb_chest_xray_dataset_builder import Builder
from cxr_tfds.errors import InputError, MissingData

pytestmark = pytest.mark.slow

SAME = (113, 117, 162, 166, 170)  # images of Montgomery that show two patients


def draw_montgomery(folder: Path) -> Path:
    """Draws 3 normal images, 7 with tuberculosis of 4 patients, masks and readings."""
    top = folder / "MontgomerySet"
    for number in (1, 2, 3, 4, 5, *SAME):
        name = f"MCUCXR_{number:04}_{int(number > 3)}"
        draw_image(top / "CXR_png" / f"{name}.png")
        for side in ("leftMask", "rightMask"):
            draw_image(top / "ManualMask" / side / f"{name}.png")
        (top / "ClinicalReadings").mkdir(exist_ok=True)
        (top / "ClinicalReadings" / f"{name}.txt").write_text("Patient's Sex: F\nnormal")
    (top / "CXR_png" / "Thumbs.db").write_bytes(b"1")
    return folder


def draw_shenzhen(folder: Path) -> Path:
    """Draws 10 normal images and 10 with tuberculosis, and masks."""
    for number in range(1, 21):
        name = f"CHNCXR_{number:04}_{int(number > 10)}"
        draw_image(folder / "ChinaSet_AllFiles" / "CXR_png" / f"{name}.png", mode="P")
        draw_image(folder / "mask" / f"{name}_mask.png")
    return folder


def draw(folder: Path) -> Path:
    return draw_shenzhen(draw_montgomery(folder))


class TbChestXrayTest(DrawnSource, tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 22, "validation": 2, "test": 6}  # noqa: RUF012
    draw = staticmethod(draw)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source; read-only."""
    return draw(tmp_path_factory.mktemp("source"))


def read_all(builder: Any) -> dict[str, dict[str, Any]]:
    records = read(builder.data_path)
    return {image_id: e for examples in records.values() for image_id, e in examples.items()}


def test_reads_both_sets(source: Path, tmp_path: Path) -> None:
    builder = build(Builder, source, tmp_path)
    assert builder.info.features["label"].names == ["Normal", "Tuberculosis"]
    examples = read_all(builder)
    assert len(examples) == 30
    for image_id, label, patient in (
        ("Normal/MontgomerySet/CXR_png/MCUCXR_0001_0.png", 0, b"tb-MCUCXR_0001"),
        ("Tuberculosis/ChinaSet_AllFiles/CXR_png/CHNCXR_0011_1.png", 1, b"tb-CHNCXR_0011"),
        ("Tuberculosis/MontgomerySet/CXR_png/MCUCXR_0117_1.png", 1, b"tb-MCUCXR_0113"),
    ):
        example = examples[image_id]
        assert (example["label"], example["finding"], example["patient_id"]) == (
            label,
            label,
            patient,
        )
    report = json.loads((builder.data_path / "build_report.json").read_text(encoding="utf-8"))
    assert any("masks and annotations: 40 (MontgomerySet/Man" in note for note in report["notes"])


def test_keeps_patients_in_one_split(source: Path, tmp_path: Path) -> None:
    records = read(build(Builder, source, tmp_path).data_path)
    known = [{e["patient_id"] for e in examples.values()} for examples in records.values()]
    assert sum(map(len, known)) == len(set.union(*known)) == 27  # of 30 images


@pytest.mark.parametrize(("draw_one", "count"), [(draw_montgomery, 10), (draw_shenzhen, 20)])
def test_reads_one_set(draw_one: Any, count: int, tmp_path: Path) -> None:
    assert len(read_all(build(Builder, draw_one(tmp_path / "one"), tmp_path / "data"))) == count


def test_selects_one_set(source: Path, tmp_path: Path) -> None:
    examples = read_all(
        build(Builder, source, tmp_path, class_pattern="^MCUCXR_[0-9]{4}_([01])[.]")
    )
    assert {image_id.split("/")[1] for image_id in examples} == {"MontgomerySet"}


def test_ignores_repeated_images(source: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    shutil.make_archive(str(tmp_path / "NLM"), "zip", copy)
    shutil.move(tmp_path / "NLM.zip", copy)
    (copy / "test").mkdir()
    shutil.copy(copy / "ChinaSet_AllFiles/CXR_png/CHNCXR_0001_0.png", copy / "test")
    assert len(read_all(build(Builder, copy, tmp_path / "data"))) == 30


def test_refuses_other_names(tmp_path: Path) -> None:
    draw_image(tmp_path / "source" / "Normal" / "1.png")
    with pytest.raises(InputError, match=r"finds a class in no file name of (.*\n?)+Normal/1\.png"):
        build(Builder, tmp_path / "source", tmp_path / "data")
    assert not published(tmp_path / "data")


def test_reports_missing_data(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"It does not exist\.\n(.*\n)+Get the data: kaggle"):
        build(Builder, tmp_path / "nowhere", tmp_path / "data")
