"""What the figures of a split are made of: decisions, rates, the area under the curve, calibration. NumPy only.

The figures themselves, with their intervals, are in `cxr_tfds.evaluation.summary`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from cxr_tfds.evaluation.resampling import Confusion, Ranking, check_classes, check_length, numbers, whole_numbers

BINS = 15  # of calibration

# Numerator, denominator, and what is missing where the denominator is 0 and the rate undefined; {0} and {1}
# are the names of the classes.
RATES: dict[str, tuple[Callable[[Confusion], np.ndarray], Callable[[Confusion], np.ndarray], str]] = {
    "accuracy": (lambda c: c.tp + c.tn, lambda c: c.tn + c.fp + c.fn + c.tp, "there are no images"),
    "sensitivity": (lambda c: c.tp, lambda c: c.tp + c.fn, "no image is labelled {1}"),
    "specificity": (lambda c: c.tn, lambda c: c.tn + c.fp, "no image is labelled {0}"),
    "ppv": (lambda c: c.tp, lambda c: c.tp + c.fp, "no image was decided to be {1}"),
    "npv": (lambda c: c.tn, lambda c: c.tn + c.fn, "no image was decided to be {0}"),
    "f1": (
        lambda c: 2 * c.tp,
        lambda c: (2 * c.tp + c.fp + c.fn) * (c.tp + c.fn > 0),
        "no image is labelled {1}",
    ),
}


def decisions(probabilities: np.ndarray, threshold: float | None) -> np.ndarray:
    """Class numbers int64 (N,) from the finding's probabilities (N,), 1 from the threshold on; or the most probable
    class of probabilities (N, K), where it is None.
    """
    return probabilities.argmax(axis=1) if threshold is None else (probabilities >= threshold).astype(np.int64)


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


def calibration_gaps(probabilities: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Probability less outcome (0 or 1) of each image (N,), in the column of its bin: (N, 15)."""
    return (probabilities - outcomes)[:, np.newaxis] * np.eye(BINS)[calibration_bins(probabilities)]


def calibration_bins(probabilities: np.ndarray) -> np.ndarray:
    """Number of the bin of each probability (N,), 0 to 14; a bin holds its lower end."""
    return np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
