"""Ranking metrics: area under the ROC curve and average precision. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cxr_tfds.metrics.checks import check_classes, check_length, numbers, whole_numbers
from cxr_tfds.metrics.resampling import divide


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


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: how often a finding scores above its absence; a tie counts half.

    Args:
      labels: 1 is the finding, 0 its absence (N,).
      scores: (N,), higher for the finding.

    Raises:
      InputError: one class only, unequal lengths, or a score that is no finite number.
    """
    known, values = whole_numbers(labels, "label", 2), numbers(scores, "scores")
    check_length(known, values, "scores")
    check_classes("auc", known, 2)
    return float(Ranking(known, values).auc()[0])
