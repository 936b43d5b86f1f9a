"""What the figures of a split are made of: decisions, rates, the area under the curve, calibration. NumPy only.

The figures themselves, with their intervals, are in `cxr_tfds.metrics.summary`.
"""

from __future__ import annotations

import numpy as np

BINS = 15  # of calibration


def reliability_gaps(probabilities: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Probability less outcome (0 or 1) of each image (N,), in the column of its bin: (N, 15)."""
    return (probabilities - outcomes)[:, np.newaxis] * np.eye(BINS)[reliability_bins(probabilities)]


def reliability_bins(probabilities: np.ndarray) -> np.ndarray:
    """Number of the bin of each probability (N,), 0 to 14; a bin holds its lower end."""
    return np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
