"""Builds of drawn arrays in the form of PneumoniaMNIST."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.sources import DrawnSource, build, published, read

from cxr_tfds.builders.medmnist_pneumonia.medmnist_pneumonia_dataset_builder import Builder
from cxr_tfds.errors import InputError, MissingData

COUNTS = {"train": 30, "val": 6, "test": 8}


def draw(folder: Path, name: str = "pneumoniamnist.npz", size: int = 28) -> Path:
    """Draws the arrays; image 0 of each split is normal, images 1 and 2 have pneumonia, and so on.

    Returns the folder.
    """
    random = np.random.default_rng(0)
    arrays = {}
    for split, count in COUNTS.items():
        arrays[f"{split}_images"] = random.integers(0, 256, (count, size, size), np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % 3 > 0)[:, None].astype("u1")
    folder.mkdir(exist_ok=True)
    np.savez(folder / name, **arrays)
    return folder


@pytest.mark.slow
class MedmnistPneumoniaTest(DrawnSource, tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 30, "validation": 6, "test": 8}  # noqa: RUF012
    draw = staticmethod(draw)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source; read-only."""
    return draw(tmp_path_factory.mktemp("source"))


@pytest.mark.slow
def test_keeps_the_official_splits(source: Path, tmp_path: Path) -> None:
    builder = build(Builder, source, tmp_path, name="28", size=28)
    records = read(builder.data_path)
    assert {split: len(examples) for split, examples in records.items()} == {
        "train": 30,
        "validation": 6,
        "test": 8,
    }
    for split, examples in records.items():
        assert {image_id.split("/")[0] for image_id in examples} == {split}
    assert builder.info.features["label"].names == ["normal", "pneumonia"]
    assert builder.info.metadata["split"] == "source"
    with np.load(source / "pneumoniamnist.npz") as arrays:
        for image_id, label, number in (
            ("train/normal/000000.png", 0, 0),
            ("train/pneumonia/000002.png", 1, 2),
        ):
            example = records["train"][image_id]
            assert (example["label"], example["finding"], example["patient_id"]) == (
                label,
                label,
                b"",
            )
            assert np.array_equal(example["image"][..., 0], arrays["train_images"][number])
    report = json.loads((builder.data_path / "build_report.json").read_text(encoding="utf-8"))
    assert any("cut validation from train by image" in note for note in report["notes"])


@pytest.mark.slow
def test_reads_larger_images(tmp_path: Path) -> None:
    folder = draw(tmp_path / "source", "pneumoniamnist_64.npz", 64)
    draw(folder, "breastmnist.npz")  # ignored
    records = read(build(Builder, folder, tmp_path / "data").data_path)
    assert records["test"]["test/normal/000000.png"]["height"] == 64
    path = folder / "pneumoniamnist_64.npz"
    assert len(read(build(Builder, path, tmp_path / "file").data_path)["test"]) == 8


def test_cuts_folds(source: Path, tmp_path: Path) -> None:
    records = read(build(Builder, source, tmp_path, split="fold:0/3").data_path)
    assert {split: len(examples) for split, examples in records.items()} == {
        "train": 24,
        "validation": 12,
        "test": 8,
    }


@pytest.mark.parametrize(
    ("names", "given", "error", "message"),
    [
        (
            ["pneumoniamnist.npz", "pneumoniamnist_64.npz"],
            "",
            InputError,
            r"contains pneumoniamnist\.npz, pneumoniamnist_64\.npz: .* --manual_dir ",
        ),
        (["breastmnist.npz"], "", MissingData, r"No pneumoniamnist\*\.npz in (.*\n)+Get the data"),
        (["breastmnist.npz"], "breastmnist.npz", InputError, "is not named like PneumoniaMNIST"),
        ([], "nowhere", MissingData, r"It does not exist\.\n(.*\n)+Get the data"),
    ],
)
def test_refuses_other_files(
    names: list[str], given: str, error: Any, message: str, tmp_path: Path
) -> None:
    for name in names:
        draw(tmp_path / "source", name)
    with pytest.raises(error, match=message):
        build(Builder, tmp_path / "source" / given, tmp_path / "data")
    assert not published(tmp_path / "data")
