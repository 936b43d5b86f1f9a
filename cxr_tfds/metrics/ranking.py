"""Ranking metrics: area under the ROC curve and average precision. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cxr_tfds.errors import InputError
from cxr_tfds.metrics.resampling import divide


class Ranking:
    """Images sorted by score once, for all resamples.

    Attributes:
      labels: 1 is the finding, 0 its absence (N,).
      distinct_scores: Sorted scores without repetitions (T,).
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray) -> None:
        self.labels = labels
        self.distinct_scores, ranks = np.unique(scores, return_inverse=True)
        self._order = np.argsort(ranks)
        self._starts = np.searchsorted(ranks[self._order], np.arange(len(self.distinct_scores)))

    def counts_per_score(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the weight of positives and of negatives at each distinct score, (R, T) each."""
        ordered = np.ones((1, len(self.labels))) if weights is None else weights[:, self._order]
        positive = np.add.reduceat(ordered * self.labels[self._order], self._starts, axis=1)
        return positive, np.add.reduceat(ordered, self._starts, axis=1) - positive

    def auc(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Returns the area under the ROC curve (R,), NaN if a class is missing. Ties count half."""
        positive, negative = self.counts_per_score(weights)
        lower = negative.cumsum(axis=1) - negative / 2
        return divide((positive * lower).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))

    def average_precision(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Returns the mean precision over the positives (R,). NaN if a class is missing."""
        positive, negative = (counts[:, ::-1] for counts in self.counts_per_score(weights))
        true, false = positive.cumsum(axis=1), negative.cumsum(axis=1)
        precision = true / np.maximum(true + false, 1)  # weights are whole numbers
        return divide((positive * precision).sum(axis=1), true[:, -1] * (false[:, -1] > 0))


def rank_classes(labels: np.ndarray, scores: np.ndarray) -> list[Ranking]:
    """Returns one ranking for scores (N,), or one of each class against the rest for (N, K)."""
    if scores.ndim == 1:
        return [Ranking(labels, scores)]
    return [Ranking((labels == k).astype(np.int64), values) for k, values in enumerate(scores.T)]


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Returns the area under the ROC curve; a tie counts half.

    Args:
      labels: 1 is the finding, 0 its absence (N,).
      scores: (N,), higher for the finding.

    Raises:
      InputError: A class is missing, or a score is NaN or infinite.
    """
    known = np.asarray(labels)
    check_both_classes("auc", known)
    return float(Ranking(known, as_finite(scores, "scores")).auc()[0])


def as_finite(values: ArrayLike, name: str) -> np.ndarray:
    """Returns scores as float64; raises an InputError if one is NaN or infinite."""
    array = np.asarray(values, dtype=np.float64)
    wrong = array[~np.isfinite(array)]
    if wrong.size:
        raise InputError(f"{name} contain {wrong[0]}; expected finite numbers.")
    return array


def check_both_classes(metric: str, labels: np.ndarray) -> None:
    """Raises an InputError unless both 0 and 1 occur among the labels."""
    for label in (0, 1):
        if label not in labels:
            raise InputError(
                f"{metric} is undefined: none of the {len(labels)} images is labelled {label}."
            )
