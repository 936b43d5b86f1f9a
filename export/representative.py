"""The representative images: training images whose activations set the quantization ranges."""

from __future__ import annotations

import numpy as np

from cxr_tfds.progress import progress_bar
from cxr_tfds.reading.datasets import BuiltDataset

from .inference import image_batches, pick_images

_SEED = 0  # fixed, so that the same run gives the same file


def representative_images(dataset: BuiltDataset, count: int) -> np.ndarray:
    """Returns unaugmented training images, equally many of each class: uint8 (N, S, S, C).

    If an image may have several findings, equally many have each finding as their rarest one, and
    as many have none.

    The converter sets the range of the input to the darkest and brightest pixel it sees. If train
    has a pixel of 0 and one of 255, an image with each is chosen, so that an int8 step is one pixel
    value (scale 1, zero point -128). Otherwise pixels of later images beyond the range of train are
    clipped: no artificial image is added.

    Args:
      dataset: The dataset whose train split is read, twice, a batch at a time.
      count: Maximum number of images, N; at least one of each class is returned.
    """
    parts = []
    total = dataset.sizes["train"]
    with progress_bar(f"choosing {min(count, total)} training images", total) as advance:
        for images, labels in image_batches(dataset, "train"):
            parts.append((labels, images.min(axis=(1, 2, 3)), images.max(axis=(1, 2, 3))))
            advance(len(images))
    labels, darkest, brightest = (np.concatenate(values) for values in zip(*parts, strict=True))
    if labels.ndim == 2:
        labels = _rarest_findings(labels)
    return pick_images(dataset, "train", _choose(labels, darkest, brightest, count))


def _rarest_findings(states: np.ndarray) -> np.ndarray:
    """Returns the number of the rarest finding of each image (N,), -1 for none.

    `states` are (N, K), 1 where a finding is present.
    """
    present = states == 1
    by_rarity = np.argsort(present.sum(axis=0), kind="stable")
    return np.where(present.any(axis=1), by_rarity[present[:, by_rarity].argmax(axis=1)], -1)


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
