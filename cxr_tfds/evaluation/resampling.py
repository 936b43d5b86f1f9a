"""Counts and rankings of weighted images: all resamples of a bootstrap at once. NumPy only.

Weights are float (R, N): how often each of N images is counted in each of R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cxr_tfds.errors import InputError

_WEIGHTS_AT_ONCE = 2_000_000  # resamples x images held in memory together; 16 MB of float64


class Confusion(NamedTuple):
    """Counts of images, arrays (R,): one count a resample, (1,) where nothing was resampled."""

    tn: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tp: np.ndarray


class Ranking:
    """Images in the order of their scores, sorted once for all resamples."""

    def __init__(self, labels: np.ndarray, scores: np.ndarray) -> None:
        self.labels = labels
        self.distinct, self._of_image = np.unique(scores, return_inverse=True)
        self._order = np.argsort(self._of_image, kind="stable")
        self._starts = np.searchsorted(self._of_image[self._order], np.arange(len(self.distinct)))

    def per_score(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Weight of positives and of negatives at each distinct score, ascending: (R, T) each."""
        ordered = np.ones((1, len(self.labels))) if weights is None else weights[:, self._order]
        positive = np.add.reduceat(ordered * self.labels[self._order], self._starts, axis=1)
        return positive, np.add.reduceat(ordered, self._starts, axis=1) - positive

    def auc(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Area under the ROC curve (R,); a tie counts half. NaN where a class is missing."""
        positive, negative = self.per_score(weights)
        lower = negative.cumsum(axis=1) - negative / 2
        return divide((positive * lower).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))

    def average_precision(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Mean precision over the recalled positives (R,). NaN where a class is missing."""
        positive, negative = (weight[:, ::-1] for weight in self.per_score(weights))
        found, wrong = positive.cumsum(axis=1), negative.cumsum(axis=1)
        precision = found / np.maximum(found + wrong, 1)  # weights are whole numbers
        return divide((positive * precision).sum(axis=1), found[:, -1] * (wrong[:, -1] > 0))


def as_confusion(table: np.ndarray) -> Confusion:
    """The four counts of a table (R, 2, 2)."""
    return Confusion(table[:, 0, 0], table[:, 0, 1], table[:, 1, 0], table[:, 1, 1])


def weighted_table(weights: np.ndarray, labels: np.ndarray, decisions: np.ndarray, classes: int) -> np.ndarray:
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
        raise InputError(f"group {odd[0]!r} is a {type(odd[0]).__name__}; expected patient ids as strings.")
    codes: dict[str | int, int] = {}
    return np.array([codes.setdefault(group or index, len(codes)) for index, group in enumerate(groups)])


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient; NaN where the denominator is 0."""
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), np.nan)


def whole_numbers(values: ArrayLike, what: str, classes: int) -> np.ndarray:
    """int64 (N,), 0 to classes - 1; InputError for anything else."""
    array = np.asarray(values)
    if array.ndim != 1 or not array.size:
        raise InputError(f"{what}s of shape {array.shape}; expected (N,) with N > 0.")
    wrong = array[~np.isin(array, np.arange(classes))]
    if wrong.size:
        raise InputError(f"{what} {wrong[0]!s}; expected whole numbers from 0 to {classes - 1}.")
    return array.astype(np.int64)


def numbers(values: ArrayLike, what: str, ndim: int = 1) -> np.ndarray:
    """Finite float64, (N,) or (N, K); InputError for anything else."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim:
        raise InputError(f"{what} of shape {array.shape}; expected {'(N,)' if ndim == 1 else '(N, K)'}.")
    if not np.isfinite(array).all():
        raise InputError(f"{what} hold {array[~np.isfinite(array)][0]}; expected finite numbers.")
    return array


def probabilities_of(values: ArrayLike, ndim: int = 1) -> np.ndarray:
    """float64, 0 to 1, (N,) or (N, K); InputError for anything else."""
    array = numbers(values, "probabilities", ndim)
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise InputError(f"probabilities from {array.min():g} to {array.max():g}; expected 0 to 1.")
    return array


def check_length(labels: np.ndarray, others: np.ndarray, what: str) -> None:
    """Raises:
    InputError: not one value for each label.
    """
    if len(others) != len(labels):
        raise InputError(f"{len(others)} {what} for {len(labels)} labels; expected one for each.")


def check_classes(metric: str, labels: np.ndarray, classes: int) -> None:
    """Raises:
    InputError: one of the classes 0 to classes - 1 has no image.
    """
    missing = sorted(set(range(classes)) - set(labels.tolist()))
    if missing:
        names = ", ".join(map(str, missing))
        raise InputError(f"{metric} is undefined: none of the {len(labels)} images is labelled {names}.")
