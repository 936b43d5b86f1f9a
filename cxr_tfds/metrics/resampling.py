"""Bootstrap resamples as weights of images. NumPy only.

Weights are float64 (R, N): how often each of N images counts in each of R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

RESAMPLES = 1000  # of the metrics of a split
PERCENTILES = (2.5, 97.5)  # of a 95% interval
_MAX_WEIGHTS = 2_000_000  # resamples x images in memory at a time; 16 MB of float64
_FEWEST_DEFINED = 0.1  # part of the resamples in which a metric with an interval is defined


def bootstrap_weights(
    groups: np.ndarray,
    resamples: int,
    seed: int,
    advance: Callable[[int], object] = lambda count: None,
) -> Iterator[np.ndarray]:
    """Yields weights (R, N) until `resamples` are drawn; R is at most what fits in memory.

    Each resample draws as many of the `groups`, numbers (N,) from `number_groups`, as there are,
    with replacement (Efron 1979). All images of a group get the same weight. `advance` takes the
    number of resamples after they were used.
    """
    generator = np.random.default_rng(seed)
    shares = np.full(groups.max() + 1, 1 / (groups.max() + 1))
    step = max(1, _MAX_WEIGHTS // len(groups))
    for start in range(0, resamples, step):
        drawn = generator.multinomial(len(shares), shares, size=min(step, resamples - start))
        yield drawn[:, groups].astype(np.float64)
        advance(len(drawn))


def bootstrap_interval(value: float, resampled: np.ndarray) -> dict[str, Any]:
    """Returns a metric with its 95% percentile interval as `{"value", "low", "high"}`.

    An undefined value or interval is None. The key `undefined` gives the reason. NaN means
    undefined in `value` and in `resampled`, the metric in each resample.
    """
    if np.isnan(value):
        return {"value": None, "low": None, "high": None}
    defined = resampled[~np.isnan(resampled)]
    if defined.size < _FEWEST_DEFINED * resampled.size:
        undefined = "too few patients for an interval"
        return {"value": float(value), "low": None, "high": None, "undefined": undefined}
    low, high = np.percentile(defined, PERCENTILES)
    # Resampling adds scatter, which only increases the ECE: all resamples may lie above its value.
    low, high = min(low, value), max(high, value)
    return {"value": float(value), "low": float(low), "high": float(high)}


def number_groups(groups: Sequence[str] | None, images: int) -> np.ndarray:
    """Returns the number of each image's group, from 0 (N,).

    `groups` are patient ids (N,). An image with "" (unknown) is a group of its own. None: every
    image is.
    """
    if groups is None:
        return np.arange(images)
    numbers: dict[str | int, int] = {}
    keys = (group or index for index, group in enumerate(groups))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys])


def confusion_tables(
    weights: np.ndarray, labels: np.ndarray, decisions: np.ndarray, classes: int
) -> np.ndarray:
    """Returns weighted counts of labels (rows) and decisions (columns): (R, classes, classes)."""
    counts = weights @ np.eye(classes**2)[classes * labels + decisions]
    return counts.reshape(-1, classes, classes)


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Returns the quotient, NaN where the denominator is 0."""
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), np.nan)
