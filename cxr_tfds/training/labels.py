"""Checks the labels of a dataset before training starts."""

from __future__ import annotations

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.sequential import read_columns


def check_labels(dataset: BuiltDataset) -> list[int]:
    """Returns the number of training images of each class after checking the labels of all splits.

    Every image needs a known label, and every split an image of each class.
    """
    for split in ("train", "validation"):
        dataset.check_split(split)
    counts = {split: _count(dataset, split) for split, size in dataset.sizes.items() if size}
    for split, numbers in counts.items():
        by_label = dict(zip(dataset.labels, numbers, strict=True))
        if missing := [label for label, n in by_label.items() if not n]:
            why = "it cannot be learned" if split == "train" else "the AUC is undefined"
            raise InputError(
                f"Split {split!r} of {dataset.name} has no image of {', '.join(missing)} "
                f"({', '.join(f'{label} {n}' for label, n in by_label.items())}), so {why}. Add "
                "such images to the source or change the splits, and build the dataset again."
            )
    return counts["train"]


def _count(dataset: BuiltDataset, split: str) -> list[int]:
    labels = read_columns(dataset, split, "label")["label"]
    if unknown := int((labels == -1).sum()):
        advice = ", or train with --target label" if dataset.target == "finding" else ""
        raise InputError(
            f"{unknown} of {len(labels)} images in split {split!r} of {dataset.name} have an "
            f"unknown {dataset.target}; expected one of {', '.join(dataset.labels)}. Remove them "
            f"from the source and build the dataset again{advice}."
        )
    return np.bincount(labels, minlength=len(dataset.labels)).tolist()
