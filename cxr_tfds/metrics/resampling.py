"""Counts and rankings of weighted images: all resamples of a bootstrap at once. NumPy only.

Weights are float (R, N): how often each of N images is counted in each of R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from cxr_tfds.errors import InputError

_WEIGHTS_AT_ONCE = 2_000_000  # resamples x images held in memory together; 16 MB of float64


class Confusion(NamedTuple):
    """Counts of images, arrays (R,): one count a resample, (1,) where nothing was resampled."""

    tn: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tp: np.ndarray


def as_confusion(table: np.ndarray) -> Confusion:
    """The four counts of a table (R, 2, 2)."""
    return Confusion(table[:, 0, 0], table[:, 0, 1], table[:, 1, 0], table[:, 1, 1])


def weighted_table(
    weights: np.ndarray, labels: np.ndarray, decisions: np.ndarray, classes: int
) -> np.ndarray:
    """Counts of labels (rows) against decisions (columns), both 0 to classes - 1 (N,): (R, classes, classes)."""
    counts = weights @ np.eye(classes**2)[classes * labels + decisions]
    return counts.reshape(-1, classes, classes)


def resample(codes: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image's group was drawn: float (R, N), R at most what fits in memory."""
    generator = np.random.default_rng(seed)
    shares = np.full(codes.max() + 1, 1 / (codes.max() + 1))
    step = max(1, _WEIGHTS_AT_ONCE // len(codes))
    for start in range(0, resamples, step):
        drawn = generator.multinomial(len(shares), shares, size=min(step, resamples - start))
        yield drawn[:, codes].astype(np.float64)


def group_codes(groups: Sequence[str] | None, images: int) -> np.ndarray:
    """A number from 0 for each image's group (N,); "" is unknown and a group of its own.

    Raises:
      InputError: not one group for each image, or a group that is no string.
    """
    if groups is None:
        return np.arange(images)
    if len(groups) != images:
        raise InputError(f"{len(groups)} groups for {images} labels; expected one for each.")
    odd = [group for group in groups if not isinstance(group, str)]
    if odd:
        raise InputError(
            f"group {odd[0]!r} is a {type(odd[0]).__name__}; expected patient ids as strings."
        )
    codes: dict[str | int, int] = {}
    return np.array(
        [codes.setdefault(group or index, len(codes)) for index, group in enumerate(groups)]
    )


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient; NaN where the denominator is 0."""
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), np.nan)
