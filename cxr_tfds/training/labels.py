"""The labels of a dataset, looked at before training starts."""

from __future__ import annotations

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.reading.cache import labels_of
from cxr_tfds.reading.datasets import BuiltDataset


def check_labels(dataset: BuiltDataset) -> list[int]:
    """Looks at the labels of every split.

    Returns:
      The number of training images of each class.

    Raises:
      InputError: train or validation is missing or empty; a label is unknown or out of range; or a split
        lacks a class, so that nothing is learned or no figure is defined.
    """
    for split in ("train", "validation"):
        dataset.check_split(split)
    counts = {split: _count(dataset, split) for split, size in dataset.sizes.items() if size}
    for split, of in counts.items():
        if missing := [label for label, n in zip(dataset.labels, of, strict=True) if not n]:
            has = ", ".join(f"{label} {n}" for label, n in zip(dataset.labels, of, strict=True))
            lacking = (
                "it cannot be learned"
                if split == "train"
                else "the area under the curve is undefined"
            )
            raise InputError(
                f"split {split!r} of {dataset.name} has no image of {', '.join(missing)} ({has}): {lacking}. Add "
                "images of it to the source, or cut the splits another way, and build the dataset again."
            )
    return counts["train"]


def _count(dataset: BuiltDataset, split: str) -> list[int]:
    labels = labels_of(dataset, split).numpy()
    classes = len(dataset.labels)
    if unknown := int((labels == -1).sum()):
        raise InputError(
            f"{unknown} of {len(labels)} images in split {split!r} of {dataset.name} have an unknown {dataset.target}; "
            f"expected one of {', '.join(dataset.labels)}. Leave them out of the source and build it again"
            + (", or train with --target label." if dataset.target == "finding" else ".")
        )
    if odd := sorted(set(labels[(labels < 0) | (labels >= classes)].tolist())):
        raise InputError(
            f"split {split!r} of {dataset.name} has {dataset.target} {', '.join(map(str, odd))}; expected 0 to "
            f"{classes - 1}, for {', '.join(dataset.labels)}. Build it again."
        )
    return np.bincount(labels, minlength=classes).tolist()
