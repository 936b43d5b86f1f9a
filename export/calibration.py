"""The training images that set the ranges of a calibrated format."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.in_order import numpy_batches

_SEED = 0  # of the choice: the same run gives the same file
_EVERY = 5000  # images between two lines of progress


def calibration_images(
    dataset: BuiltDataset, count: int, say: Callable[[str], None] = lambda line: None
) -> np.ndarray:
    """Training images as they are stored, unaugmented, as many of each class: uint8 (N, S, S, C).

    Reads the split twice and holds no more of it than a batch and what it chooses.

    The converter gives the input the range from the smallest to the largest pixel it is shown. Scale 1
    and zero point -128, so that each int8 step is a pixel value, therefore need one image with a 0 and
    one with a 255 among the chosen: where train has such images, one of each kind is. Where it has none
    (it is no real image that would be added), the range is what train holds, and pixels of later
    images beyond it are clipped to its ends.

    Args:
      dataset: whose train split is read.
      count: most images, N; but one of each class is given even where there are more classes.
      say: takes a line about how far it is.
    """
    labels, darkest, brightest = _first_pass(dataset, say)
    wanted = _choose(labels, darkest, brightest, count)
    chosen = np.empty((len(wanted), *dataset.shape), np.uint8)
    start = found = 0
    for batch in numpy_batches(dataset, "train", fields=("image",)):
        inside = wanted[found : np.searchsorted(wanted, start + len(batch["image"]))] - start
        chosen[found : found + len(inside)] = batch["image"][inside]
        start, found = start + len(batch["image"]), found + len(inside)
        if found == len(wanted):
            break
    return chosen


def _first_pass(
    dataset: BuiltDataset, say: Callable[[str], None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, smallest and largest pixel of each training image."""
    parts = []
    total, seen = dataset.sizes["train"], 0
    for batch in numpy_batches(dataset, "train", fields=("image", "label")):
        axes = tuple(range(1, batch["image"].ndim))
        parts.append((batch["label"], batch["image"].min(axis=axes), batch["image"].max(axis=axes)))
        before, seen = seen, seen + len(batch["label"])
        if seen == total or seen // _EVERY > before // _EVERY:
            say(f"choosing calibration images: {seen} of {total} training images seen")
    labels, darkest, brightest = (np.concatenate(values) for values in zip(*parts, strict=True))
    return labels, darkest, brightest


def _choose(
    labels: np.ndarray, darkest: np.ndarray, brightest: np.ndarray, count: int
) -> np.ndarray:
    """Numbers of the chosen images, rising: by lot, but for the two that reach the ends of the range."""
    order = np.random.default_rng(_SEED).permutation(len(labels))
    ends = (order[np.argmin(darkest[order])], order[np.argmax(brightest[order])])
    order = np.concatenate([ends, order[~np.isin(order, ends)]])
    order = order[np.sort(np.unique(order, return_index=True)[1])]  # one image may reach both ends
    classes = np.unique(labels)
    share = max(1, count // len(classes))
    return np.sort(np.concatenate([order[labels[order] == label][:share] for label in classes]))
