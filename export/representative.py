"""The representative images: training images whose activations set the quantization ranges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cxr_tfds.reading.datasets import BuiltDataset

from .inference import image_batches, pick_images

_SEED = 0  # fixed, so that the same run gives the same file
_PROGRESS_EVERY = 5000  # images


def representative_images(
    dataset: BuiltDataset, count: int, say: Callable[[str], None] = lambda line: None
) -> np.ndarray:
    """Returns unaugmented training images, equally many of each class: uint8 (N, S, S, C).

    The converter sets the range of the input to the darkest and brightest pixel it sees. If train
    has a pixel of 0 and one of 255, an image with each is chosen, so that an int8 step is one pixel
    value (scale 1, zero point -128). Otherwise pixels of later images beyond the range of train are
    clipped: no artificial image is added.

    Args:
      dataset: The dataset whose train split is read, twice, a batch at a time.
      count: Maximum number of images, N; at least one of each class is returned.
      say: Receives a line of progress.
    """
    labels, darkest, brightest = _read_extremes(dataset, say)
    return pick_images(dataset, "train", _choose(labels, darkest, brightest, count))


def _read_extremes(
    dataset: BuiltDataset, say: Callable[[str], None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns label, smallest and largest pixel of each training image, (N,) each."""
    parts = []
    total, seen = dataset.sizes["train"], 0
    for images, labels in image_batches(dataset, "train"):
        axes = (1, 2, 3)
        parts.append((labels, images.min(axis=axes), images.max(axis=axes)))
        before, seen = seen, seen + len(labels)
        if seen == total or seen // _PROGRESS_EVERY > before // _PROGRESS_EVERY:
            say(f"choosing representative images: {seen} of {total} training images read")
    numbers, darkest, brightest = (np.concatenate(values) for values in zip(*parts, strict=True))
    return numbers, darkest, brightest


def _choose(
    labels: np.ndarray, darkest: np.ndarray, brightest: np.ndarray, count: int
) -> np.ndarray:
    """Returns sorted numbers: one image at each end of the pixel range, the others at random."""
    order = np.random.default_rng(_SEED).permutation(len(labels))
    ends = (order[np.argmin(darkest[order])], order[np.argmax(brightest[order])])
    order = np.array(list(dict.fromkeys([*ends, *order])))  # one image may be at both ends
    classes = np.unique(labels)
    share = max(1, count // len(classes))
    return np.sort(np.concatenate([order[labels[order] == label][:share] for label in classes]))
