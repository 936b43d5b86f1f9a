"""Curves of a scored split with their bootstrap bands, as numbers to draw. NumPy only."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cxr_tfds.metrics.ranking import Ranking
from cxr_tfds.metrics.resampling import group_codes, resample

# Weights (R, N), or None for the images as they are, to x and y of R curves, (R, T) each.
Points = Callable[[np.ndarray | None], tuple[np.ndarray, np.ndarray]]

_RESAMPLES = 300
_GRID = np.linspace(0, 1, 201)
_PERCENTILES = (2.5, 97.5)


class Curve(NamedTuple):
    """A curve over `x`, and where 95 % of its resamples lie at each point of `grid`."""

    x: np.ndarray
    y: np.ndarray
    grid: np.ndarray
    low: np.ndarray
    high: np.ndarray


def roc(labels: np.ndarray, scores: np.ndarray, patients: list[str]) -> Curve | None:
    """Sensitivity (y) over the part of false alarms (x); None with one class only."""
    ranking = Ranking(labels, scores)
    if not _both(labels):
        return None

    def points(weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        found, wrong = _running(ranking, weights)
        return wrong / wrong[:, -1:], found / found[:, -1:]

    return _with_band(points, ranking, patients)


def precision_recall(labels: np.ndarray, scores: np.ndarray, patients: list[str]) -> Curve | None:
    """Precision (y) over sensitivity (x); None with one class only."""
    ranking = Ranking(labels, scores)
    if not _both(labels):
        return None

    def points(weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        found, wrong = (counts[:, 1:] for counts in _running(ranking, weights))
        called = found + wrong
        # Before the first call nothing is known of the precision: it starts at that of the first.
        precision = np.where(called > 0, found / np.maximum(called, 1), np.nan)
        first = precision[np.arange(len(precision)), np.argmax(called > 0, axis=1)][:, np.newaxis]
        precision = np.where(np.isnan(precision), first, precision)
        recall = found / found[:, -1:]
        return np.concatenate([np.zeros_like(first), recall], axis=1), np.concatenate(
            [first, precision], axis=1
        )

    return _with_band(points, ranking, patients)


def _both(labels: np.ndarray) -> bool:
    return 0 < labels.sum() < len(labels)


def _running(ranking: Ranking, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Findings and false alarms called so far, from strict to lenient thresholds, from 0: (R, T + 1) each."""
    found, wrong = (
        np.pad(of[:, ::-1].cumsum(axis=1), ((0, 0), (1, 0))) for of in ranking.per_score(weights)
    )
    return found, wrong


def _with_band(points: Points, ranking: Ranking, patients: list[str]) -> Curve:
    x, y = points(None)
    codes = group_codes(patients, len(ranking.labels))
    drawn = []
    for weights in resample(codes, _RESAMPLES, seed=0):
        positive = weights @ ranking.labels
        usable = weights[(positive > 0) & (positive < weights.sum(axis=1))]
        if len(usable):
            drawn += [
                np.interp(_GRID, across, up) for across, up in zip(*points(usable), strict=True)
            ]
    low, high = (
        np.percentile(drawn, _PERCENTILES, axis=0) if drawn else (np.interp(_GRID, x[0], y[0]),) * 2
    )
    return Curve(x[0], y[0], _GRID, low, high)


def wilson(successes: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a rate (Wilson 1927), for trials > 0: ends (N,) each."""
    z = 1.959964
    rate = successes / trials
    middle = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    return np.maximum(middle - half, 0), np.minimum(middle + half, 1)
