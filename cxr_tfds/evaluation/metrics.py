"""How good a classifier of two classes is, one metric a function. NumPy only.

Intervals are in `cxr_tfds.evaluation.summary`.

Labels are integers (N,): 1 is the finding, 0 its absence. Scores and probabilities are floats (N,),
higher for the finding. Decisions are 0 or 1 (N,); a decision is `probability >= threshold`.
A metric without an answer (one class only) is an error and never 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.resampling import (
    Confusion,
    Ranking,
    check_classes,
    check_length,
    numbers,
    probabilities_of,
    weighted_confusion,
    whole_numbers,
)

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


def confusion(labels: ArrayLike, decisions: ArrayLike) -> Confusion:
    """Counts of true and false negatives and positives, arrays (1,).

    Raises:
      InputError: no images, unequal lengths, or a value other than 0 and 1.
    """
    known, decided = whole_numbers(labels, "label", 2), whole_numbers(decisions, "decision", 2)
    check_length(known, decided, "decisions")
    return weighted_confusion(np.ones((1, len(known))), known, decided)


def confusion_matrix(labels: ArrayLike, decisions: ArrayLike) -> dict[str, int]:
    """`{"tn", "fp", "fn", "tp"}` as plain integers, for a report. Raises as `confusion` does."""
    return {name: int(count[0]) for name, count in confusion(labels, decisions)._asdict().items()}


def accuracy(labels: ArrayLike, decisions: ArrayLike) -> float:
    """Fraction of right decisions. Raises as `confusion` does."""
    return _rate("accuracy", labels, decisions)


def sensitivity(labels: ArrayLike, decisions: ArrayLike) -> float:
    """Fraction of the findings that were seen. InputError if no image has the finding."""
    return _rate("sensitivity", labels, decisions)


def specificity(labels: ArrayLike, decisions: ArrayLike) -> float:
    """Fraction of the images without the finding that were called so. InputError if there are none."""
    return _rate("specificity", labels, decisions)


def balanced_accuracy(labels: ArrayLike, decisions: ArrayLike) -> float:
    """Mean of sensitivity and specificity. InputError if a class is missing."""
    return (sensitivity(labels, decisions) + specificity(labels, decisions)) / 2


def ppv(labels: ArrayLike, decisions: ArrayLike) -> float:
    """Fraction of the positive decisions that are right. InputError if nothing was decided positive."""
    return _rate("ppv", labels, decisions)


def npv(labels: ArrayLike, decisions: ArrayLike) -> float:
    """Fraction of the negative decisions that are right. InputError if nothing was decided negative."""
    return _rate("npv", labels, decisions)


def f1(labels: ArrayLike, decisions: ArrayLike) -> float:
    """Harmonic mean of ppv and sensitivity. InputError if no image has the finding."""
    return _rate("f1", labels, decisions)


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: how often a finding scores above its absence; a tie counts half.

    Raises:
      InputError: one class only, unequal lengths, or a score that is no finite number.
    """
    return float(_ranking("auc", labels, numbers(scores, "scores")).auc()[0])


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Mean precision over the recalled findings, one step for each distinct score. Raises as `auc` does."""
    return float(_ranking("average_precision", labels, numbers(scores, "scores")).average_precision()[0])


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared distance of probability and label: 0 is best.

    Raises:
      InputError: unequal lengths, or a probability outside 0 to 1.
    """
    known, values = whole_numbers(labels, "label", 2), probabilities_of(probabilities)
    check_length(known, values, "probabilities")
    return float(np.mean((values - known) ** 2))


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """How far the probability of the finding lies from how often it is there, on average: 0 is best.

    Naeini et al. 2015 and Guo et al. 2017 (https://arxiv.org/abs/1706.04599, equation 3): 15 bins of equal
    width, each weighted by its images. Few images make it larger than it is.

    Raises:
      InputError: unequal lengths, or a probability outside 0 to 1.
    """
    known, values = whole_numbers(labels, "label", 2), probabilities_of(probabilities)
    check_length(known, values, "probabilities")
    return float(np.abs(calibration_gaps(values, known).sum(axis=0)).sum() / len(known))


def calibration_gaps(probabilities: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Probability less outcome (0 or 1) of each image (N,), in the column of its bin: (N, 15)."""
    return (probabilities - outcomes)[:, np.newaxis] * np.eye(BINS)[calibration_bins(probabilities)]


def calibration_bins(probabilities: np.ndarray) -> np.ndarray:
    """Number of the bin of each probability (N,), 0 to 14; a bin holds its lower end."""
    return np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)


def _ranking(metric: str, labels: ArrayLike, scores: np.ndarray) -> Ranking:
    known = whole_numbers(labels, "label", 2)
    check_length(known, scores, "scores")
    check_classes(metric, known, 2)
    return Ranking(known, scores)


def _rate(name: str, labels: ArrayLike, decisions: ArrayLike) -> float:
    top, base, missing = RATES[name]
    counts = confusion(labels, decisions)
    if not base(counts)[0]:
        raise InputError(f"{name} is undefined: {missing.format(0, 1)}.")
    return float(top(counts)[0] / base(counts)[0])
