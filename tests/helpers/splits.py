"""A complete split of a built dataset in memory, to compare with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cxr_tfds.reading.datasets import BuiltDataset


class Examples(NamedTuple):
    """The examples of a split in stored order."""

    images: np.ndarray  # uint8 (N, S, S, C)
    labels: np.ndarray  # int64 (N,)
    findings: np.ndarray  # int64 (N,), -1 if unknown
    image_ids: list[str]
    patient_ids: list[str]


def load_split(dataset: BuiltDataset, split: str) -> Examples:
    """Reads a complete split."""
    batches = list(dataset.batches(split, 256, with_ids=True).as_numpy_iterator())
    images = np.concatenate([batch[0] for batch in batches])
    ids = {name: np.concatenate([batch[2][name] for batch in batches]) for name in batches[0][2]}
    texts = ([text.decode() for text in ids[name]] for name in ("image_id", "patient_id"))
    return Examples(images, ids["label"], ids["finding"], *texts)
