"""The reliability curve: observed frequency against predicted probability. NumPy only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

BINS = 15


class ReliabilityCurve(NamedTuple):
    """Bins of equal width that contain images, M of at most 15."""

    predicted: np.ndarray  # mean probability (M,)
    observed: np.ndarray  # frequency of the outcome (M,)
    low: np.ndarray  # ends of its 95% interval (M,)
    high: np.ndarray
    counts: np.ndarray  # images in each of all 15 bins


def reliability_curve(probabilities: np.ndarray, outcomes: np.ndarray) -> ReliabilityCurve:
    """Returns the curve of probabilities (N,) and outcomes, 0 or 1 (N,)."""
    bins = _bin_numbers(probabilities)
    counts = np.bincount(bins, minlength=BINS)
    filled = np.flatnonzero(counts)
    images = counts[filled]
    predicted = np.bincount(bins, weights=probabilities)[filled] / images
    positives = np.bincount(bins, weights=outcomes)[filled]
    return ReliabilityCurve(
        predicted, positives / images, *wilson_interval(positives, images), counts
    )


def reliability_gaps(probabilities: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Returns probability - outcome of each image (N,), in the column of its bin: (N, 15).

    The expected calibration error (ECE) is the sum of the absolute column sums, divided by N.
    """
    return (probabilities - outcomes)[:, np.newaxis] * np.eye(BINS)[_bin_numbers(probabilities)]


def wilson_interval(successes: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both ends (N,) of the 95% interval of a rate (Wilson 1927); trials are positive."""
    z = 1.959964
    rate = successes / trials
    middle = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    return np.maximum(middle - half, 0), np.minimum(middle + half, 1)


def _bin_numbers(probabilities: np.ndarray) -> np.ndarray:
    """Returns the bin of each probability (N,), 0 to 14. A bin includes its lower end."""
    return np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
