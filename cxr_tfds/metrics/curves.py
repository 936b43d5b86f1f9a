"""ROC and precision-recall curves with bootstrap bands. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cxr_tfds.metrics.ranking import Ranking
from cxr_tfds.metrics.resampling import PERCENTILES, bootstrap_weights, number_groups

# Counts of true and of false positives from the strictest to the most lenient threshold, beginning
# with 0, (R, T + 1) each, to x and y of R curves.
_Points = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

_RESAMPLES = 300
_GRID = np.linspace(0, 1, 201)


class Curve(NamedTuple):
    """A curve y(x), and the band that contains 95% of its resamples at each point of `grid`."""

    x: np.ndarray
    y: np.ndarray
    grid: np.ndarray
    low: np.ndarray
    high: np.ndarray


def roc_curve(labels: np.ndarray, scores: np.ndarray, patients: Sequence[str]) -> Curve | None:
    """Returns sensitivity (y) against 1 - specificity (x), or None if a class is missing.

    Args:
      labels: 0 or 1 (N,).
      scores: (N,), higher for the finding.
      patients: Patient ids (N,), resampled together; "" where unknown.
    """

    def points(true: np.ndarray, false: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return false / false[:, -1:], true / true[:, -1:]

    return _with_band(points, labels, scores, patients)


def precision_recall_curve(
    labels: np.ndarray, scores: np.ndarray, patients: Sequence[str]
) -> Curve | None:
    """Returns precision (y) against recall (x), or None if a class is missing. See `roc_curve`."""

    def points(true: np.ndarray, false: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        predicted = true + false
        precision = np.where(predicted > 0, true / np.maximum(predicted, 1), np.nan)
        # Precision is undefined before the first predicted positive: the curve begins at its value.
        first = precision[np.arange(len(precision)), np.argmax(predicted > 0, axis=1)]
        return true / true[:, -1:], np.where(np.isnan(precision), first[:, np.newaxis], precision)

    return _with_band(points, labels, scores, patients)


def _with_band(
    points: _Points, labels: np.ndarray, scores: np.ndarray, patients: Sequence[str]
) -> Curve | None:
    if not 0 < labels.sum() < len(labels):
        return None
    ranking = Ranking(labels, scores)

    def curves(weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        true, false = (
            np.pad(counts[:, ::-1].cumsum(axis=1), ((0, 0), (1, 0)))
            for counts in ranking.counts_per_score(weights)
        )
        return points(true, false)

    x, y = (values[0] for values in curves(None))
    resampled = []
    for weights in bootstrap_weights(number_groups(patients, len(labels)), _RESAMPLES, seed=0):
        positive = weights @ labels
        usable = weights[(positive > 0) & (positive < weights.sum(axis=1))]
        if len(usable):
            resampled += [np.interp(_GRID, *curve) for curve in zip(*curves(usable), strict=True)]
    return Curve(x, y, _GRID, *np.percentile(resampled, PERCENTILES, axis=0))
