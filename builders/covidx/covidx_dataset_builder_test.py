"""Builds of drawn radiographs with the tables of COVIDx."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tensorflow_datasets as tfds
from helpers.sources import DrawnSource, build, draw_image, published, read

from cxr_tfds.builders.covidx.covidx_dataset_builder import Builder
from cxr_tfds.errors import InputError, MissingData


def draw(
    folder: Path,
    classes: tuple[str, ...] = ("negative", "positive"),
    *,
    numbers_rows: bool = False,
    **counts: int,
) -> Path:
    """Draws a split with `counts` images, two of each patient, and its table."""
    patient = 0
    for split, count in (counts or {"train": 40, "val": 8, "test": 12}).items():
        rows = []
        for number in range(count):
            patient += number % 2 == 0
            name = draw_image(folder / split / f"{split}-{patient}-{number % 2}.png").name
            first = str(number) if numbers_rows else f"419639-{patient:06}"
            rows.append(f"{first} {name} {classes[patient % len(classes)]} ricord")
        (folder / f"{split}.txt").write_text("\n".join(rows))
    draw_image(folder / "competition_test" / "1.png")
    return folder


@pytest.mark.slow
class CovidxTest(DrawnSource, tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 44, "validation": 4, "test": 12}  # noqa: RUF012
    draw = staticmethod(draw)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source; read-only."""
    return draw(tmp_path_factory.mktemp("source"))


def read_notes(builder: Any) -> str:
    report = json.loads((builder.data_path / "build_report.json").read_text(encoding="utf-8"))
    return "\n".join(report["notes"])


def get_patients(builder: Any) -> dict[str, set[bytes]]:
    return {
        split: {example["patient_id"] for example in examples.values()}
        for split, examples in read(builder.data_path).items()
    }


@pytest.mark.slow
def test_keeps_the_official_test_split(source: Path, tmp_path: Path) -> None:
    builder = build(Builder, source, tmp_path)
    assert builder.info.features["label"].names == ["negative", "positive"]
    records = read(builder.data_path)
    assert {image_id.split("/")[0] for image_id in records["test"]} == {"test"}
    assert len(records["test"]) == 12
    example = records["test"]["test/test/test-25-1.png"]
    assert (example["label"], example["patient_id"]) == (1, b"419639-000025")
    known = get_patients(builder)
    assert sum(map(len, known.values())) == len(set.union(*known.values())) == 30
    assert "images without a row: 1 (competition_test/1.png)" in read_notes(builder)


@pytest.mark.slow
def test_keeps_all_official_splits(source: Path, tmp_path: Path) -> None:
    records = read(build(Builder, source, tmp_path, split="source").data_path)
    assert {split: len(examples) for split, examples in records.items()} == {
        "train": 40,
        "validation": 8,
        "test": 12,
    }
    assert {image_id.split("/")[0] for image_id in records["validation"]} == {"validation"}


def test_cuts_validation_without_val_txt(tmp_path: Path) -> None:
    builder = build(Builder, draw(tmp_path / "source", train=40, test=8), tmp_path / "data")
    records = read(builder.data_path)
    assert {split: len(examples) for split, examples in records.items()} == {
        "train": 36,
        "validation": 4,
        "test": 8,
    }


def test_reads_three_classes(tmp_path: Path) -> None:
    classes = ("normal", "pneumonia", "COVID-19")
    source = draw(tmp_path / "source", classes, train=36, test=12)
    for split in ("train", "test"):
        (source / f"{split}.txt").rename(source / f"{split}_COVIDx_CXR-3A.txt")
    tables = {split: f"{split}_COVIDx_CXR-3A.txt" for split in ("train", "test")}
    builder = build(Builder, source, tmp_path / "data", table=tables)
    assert builder.info.features["label"].names == ["normal", "COVID-19", "pneumonia"]
    assert len(read(builder.data_path)["test"]) == 12


@pytest.mark.slow
def test_leaves_out_images_of_tested_patients(source: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(source, tmp_path / "copy"))
    table = (changed / "train.txt").read_text().replace("419639-000001 ", "419639-000025 ")
    (changed / "train.txt").write_text(table)
    builder = build(Builder, changed, tmp_path / "data")
    known = get_patients(builder)
    assert known["test"].isdisjoint(known["train"] | known["validation"])
    assert '"split": "source" keeps them): 2 (train/train/train-1-0.png' in read_notes(builder)
    kept = build(Builder, changed, tmp_path / "data", name="32-source", split="source")
    assert len(read(kept.data_path)["train"]) == 40


@pytest.mark.slow
def test_numbers_of_rows_are_not_patients(tmp_path: Path) -> None:
    builder = build(Builder, draw(tmp_path / "source", numbers_rows=True), tmp_path / "data")
    assert get_patients(builder) == {"train": {b""}, "validation": {b""}, "test": {b""}}
    assert "The first column of the tables numbers the rows" in read_notes(builder)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1 nowhere.png positive rsna\n", "1 rows whose image does not exist"),
        ("1 test-25-0.png negative rsna\n", "rows contradict each other"),
        ("", None),
    ],
)
def test_refuses_bad_tables(rows: str, message: str | None, source: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(source, tmp_path / "copy"))
    if message is None:
        (changed / "test.txt").unlink()
        with pytest.raises(MissingData, match=r"No table test\.txt in (.*\n)+Get the data"):
            build(Builder, changed, tmp_path / "data")
    else:
        with (changed / "test.txt").open("a") as file:
            file.write(f"\n{rows}")
        with pytest.raises(InputError, match=message):
            build(Builder, changed, tmp_path / "data")
    assert not published(tmp_path / "data")
