"""The reliability curve: observed frequency against predicted probability. NumPy only."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

BINS = 15
_Z = 1.959964  # half the width of a 95% interval, in standard deviations


class ReliabilityCurve(NamedTuple):
    """Bins of equal width that contain images, M of at most 15."""

    predicted: np.ndarray  # mean probability (M,)
    observed: np.ndarray  # frequency of the outcome (M,)
    low: np.ndarray  # ends of its 95% interval (M,)
    high: np.ndarray
    counts: np.ndarray  # images in each of all 15 bins


def reliability_curve(probabilities: np.ndarray, outcomes: np.ndarray) -> ReliabilityCurve:
    """Returns the curve of probabilities (N,) and outcomes, 0 or 1 (N,)."""
    counts, positives = count_outcomes(probabilities, outcomes)
    filled = np.flatnonzero(counts)
    images, positives = counts[filled], positives[filled]
    sums = np.bincount(_bin_numbers(probabilities), weights=probabilities)[filled]
    return ReliabilityCurve(
        sums / images, positives / images, *wilson_interval(positives, images), counts
    )


def count_outcomes(
    probabilities: np.ndarray, outcomes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images and those with the outcome in each bin: two int64 (15,)."""
    bins = _bin_numbers(probabilities)
    images = np.bincount(bins, minlength=BINS)
    return images, np.bincount(bins[np.asarray(outcomes) > 0], minlength=BINS)


def reliability_gaps(probabilities: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Returns probability - outcome of each image (N,), in the column of its bin: (N, 15).

    The expected calibration error (ECE) is the sum of the absolute column sums, divided by N.
    """
    return (probabilities - outcomes)[:, np.newaxis] * np.eye(BINS)[_bin_numbers(probabilities)]


def wilson_interval(successes: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both ends (N,) of the 95% interval of a rate (Wilson 1927); trials are positive."""
    z, rate = _Z, successes / trials
    middle = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    return np.maximum(middle - half, 0), np.minimum(middle + half, 1)


def trials_needed(rate: float) -> int | None:
    """Returns how many trials must all succeed for a 95% interval from `rate` to 1.

    None if no number is enough, because `rate` is 1.
    """
    return None if rate >= 1 else math.ceil(_Z**2 * rate / (1 - rate))


def _bin_numbers(probabilities: np.ndarray) -> np.ndarray:
    """Returns the bin of each probability (N,), 0 to 14. A bin includes its lower end."""
    return np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
