"""Small datasets for the tests of conversion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cxr_tfds.reading.datasets import BuiltDataset, open_dataset

NAMES = ("Edema", "Pneumothorax", "height")  # one is also the name of a field
PIXELS = tfds.features.Tensor(
    shape=(8, 8, 1), dtype=np.uint8, encoding=tfds.features.Encoding.BYTES
)
FIELDS = {
    "image_id": tfds.features.Text(),
    "patient_id": tfds.features.Text(),
    "height": tfds.features.Scalar(np.int32),
    "width": tfds.features.Scalar(np.int32),
}


@pytest.fixture(scope="session")
def pneumonia(built: Path) -> BuiltDataset:
    """The phantom at 64 x 64."""
    return open_dataset("chest_xray_pneumonia/64", built)


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., BuiltDataset]:
    """Returns a function that stores examples as a dataset of one split, in one shard."""

    def write(
        examples: list[dict[str, Any]], features: dict[str, Any], labels: tuple[str, ...]
    ) -> BuiltDataset:
        rows = [(i, {"height": 3, "width": 4} | row) for i, row in enumerate(examples)]
        builder = tfds.dataset_builders.store_as_tfds_dataset(
            name="drawn",
            version="1.0.0",
            features=tfds.features.FeaturesDict(features | FIELDS),
            split_datasets={"train": rows},
            data_dir=tmp_path / "stored",
            disable_shuffling=True,
        )
        split = builder.info.splits["train"]
        return BuiltDataset(
            name="drawn/8:1.0.0",
            shape=(8, 8, 1),
            labels=labels,
            fit="stretch",
            fingerprint="0" * 64,
            shards={"train": [str(path) for path in split.filepaths]},
            shard_sizes={"train": list(split.shard_lengths)},
            encoded=features["image"].shape == (),
        )

    return write


@pytest.fixture
def several_findings(store: Callable[..., BuiltDataset]) -> BuiltDataset:
    """Four images with a vector of three findings."""
    rng = np.random.default_rng(0)
    examples = [
        {
            "image": rng.integers(0, 256, (8, 8, 1), dtype=np.uint8),
            "labels": np.array([1, 0, -number], np.int8),
            "image_id": f"p{number}/a.png",
            "patient_id": f"p{number}",
        }
        for number in range(4)
    ]
    labels = tfds.features.Tensor(shape=(3,), dtype=np.int8)
    return store(examples, {"image": PIXELS, "labels": labels}, NAMES)
