"""Builds of drawn CT slices: the records, and papers with slices in several splits."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.sources import DrawnSource, Records, build, draw_image, published, read

from cxr_tfds.builders.covid_ct.covid_ct_dataset_builder import Builder
from cxr_tfds.errors import MissingData
from cxr_tfds.imaging.pixels import radiograph

PAPER = "2020.02.{:02}.2000-p1-{}%{}.png"


def draw_slices(folder: Path, *, test: bool = True) -> Path:
    """Draws 20 + 20 train, 3 + 3 val and 4 + 4 test slices; paper 1 is in all three splits."""
    for paper in range(1, 11):
        for part in range(2):
            draw_image(folder / "train" / "CT_COVID" / PAPER.format(paper, paper, part), "RGBA")
    for number in range(20):
        draw_image(folder / "train" / "CT_NonCOVID" / f"{number // 3}%{number % 3}.jpg")
    for number in range(3):
        draw_image(folder / "val" / "CT_COVID" / PAPER.format(1, 200, number), size=(61, 45))
        draw_image(folder / "val" / "CT_NonCOVID" / f"{1000 + number}.png")
    for number in range(4 if test else 0):
        draw_image(
            folder
            / "test"
            / "CT_COVID"
            / PAPER.format(1 if not number else 20 + number, 300, number)
        )
        draw_image(folder / "test" / "CT_NonCOVID" / f"{2000 + number}.png")
    return folder


@pytest.mark.slow
class CovidCtTest(DrawnSource, tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks, on a source without a test split."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 41, "validation": 5}  # noqa: RUF012
    SKIP_CHECKSUMS = True
    draw = partial(draw_slices, test=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source; read-only."""
    return draw_slices(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(build(Builder, source, tmp_path_factory.mktemp("data")).data_path)


@pytest.fixture(scope="module")
def records(built: Path) -> Records:
    return read(built)


def test_stores_the_slices(source: Path, records: Records) -> None:
    for examples in records.values():
        for image_id, example in examples.items():
            split, class_name, name = image_id.split("/")
            path = source / split.replace("validation", "val") / f"CT_{class_name}" / name
            np.testing.assert_array_equal(
                example["image"], radiograph(path.read_bytes(), 32).pixels
            )
            assert example["label"] == (class_name == "COVID")
            assert example["finding"] == (0 if class_name == "COVID" else -1)
    example = records["test"]["test/COVID/2020.02.21.2000-p1-300%1.png"]
    assert example["patient_id"] == b"paper-2020.02.21.2000"
    assert records["test"]["test/NonCOVID/2000.png"]["patient_id"] == b""


def test_keeps_papers_and_figures_in_one_split(built: Path, records: Records) -> None:
    seen: dict[bytes, str] = {}
    for split, examples in records.items():
        for example in examples.values():
            if example["patient_id"]:
                assert seen.setdefault(example["patient_id"], split) == split
    assert len(records["test"]) == 8
    assert sum(map(len, records.values())) == 54 - 5  # paper 1: 2 in train, 3 in val
    notes = json.loads((built / "build_report.json").read_text(encoding="utf-8"))["notes"]
    assert (
        "Slices of train and validation left out because the test split has others of their paper: "
        '5. "split": "source" keeps them.'
    ) in notes


def test_keeps_the_splits_of_the_source(source: Path, tmp_path: Path) -> None:
    builder = build(Builder, source, tmp_path, split="source")
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == {
        "train": 40,
        "validation": 6,
        "test": 8,
    }
    assert builder.info.features["label"].names == ["NonCOVID", "COVID"]


def test_reports_missing_data(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        MissingData,
        match=r"No slices in .*\nFound there: nothing\n(.*\n)+\nGet the data: git clone",
    ):
        build(Builder, tmp_path / "empty", tmp_path / "data")
    assert not published(tmp_path / "data")


@pytest.mark.slow
def test_readme_counts_match_the_real_slices(shared_data: Path, tmp_path: Path) -> None:
    match = re.search(r"train (\d+) / (\d+), val (\d+) / (\d+)", Builder.get_metadata().description)
    built = build(Builder, shared_data / "covid_ct", tmp_path, split="source").data_path
    splits = json.loads((built / "build_report.json").read_text(encoding="utf-8"))["splits"]
    counts = [
        splits[split]["classes"][label]
        for split in ("train", "validation")
        for label in ("COVID", "NonCOVID")
    ]
    assert match
    assert counts == list(map(int, match.groups()))
    assert (
        len(
            {
                image.patient_id
                for image in Builder(data_dir=tmp_path).scan(shared_data / "covid_ct").images
            }
        )
        == 107
    )
