"""How good a classifier is, with 95% intervals that know which images share a patient. NumPy only.

Labels are integers (N,): 1 is the finding, 0 its absence. Scores and probabilities are floats (N,),
higher for the finding. Decisions are 0 or 1 (N,); a decision is `probability >= threshold`.
A metric without an answer (one class only) is an error and never 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from cxr_tfds.errors import InputError
from cxr_tfds.resampling import (
    Confusion,
    Ranking,
    check_classes,
    check_length,
    divide,
    group_codes,
    numbers,
    probabilities_of,
    resample,
    weighted_confusion,
    whole_numbers,
)

RULES = ("youden",)
_PERCENTILES = (2.5, 97.5)

# Numerator, denominator, and what is missing where the denominator is 0 and the rate undefined.
_RATES: dict[str, tuple[Callable[[Confusion], np.ndarray], Callable[[Confusion], np.ndarray], str]] = {
    "accuracy": (lambda c: c.tp + c.tn, lambda c: c.tn + c.fp + c.fn + c.tp, "there are no images"),
    "sensitivity": (lambda c: c.tp, lambda c: c.tp + c.fn, "no image is labelled 1"),
    "specificity": (lambda c: c.tn, lambda c: c.tn + c.fp, "no image is labelled 0"),
    "ppv": (lambda c: c.tp, lambda c: c.tp + c.fp, "no image was decided to be 1"),
    "npv": (lambda c: c.tn, lambda c: c.tn + c.fn, "no image was decided to be 0"),
    "f1": (
        lambda c: 2 * c.tp,
        lambda c: (2 * c.tp + c.fp + c.fn) * (c.tp + c.fn > 0),
        "no image is labelled 1",
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


def best_threshold(labels: ArrayLike, probabilities: ArrayLike, rule: str = "youden") -> float:
    """The threshold, halfway between two neighbouring probabilities, that serves the rule best.

    "youden" makes sensitivity + specificity largest. Of equally good thresholds the one nearest
    0.5 is taken. Deciding everything alike is allowed too, so that a constant model has an answer.

    Raises:
      InputError: one class only, unequal lengths, a probability outside 0 to 1, or an unknown rule.
    """
    if rule not in RULES:
        raise InputError(f"rule={rule!r}; expected one of {', '.join(RULES)}.")
    ranking = _ranking("best_threshold", labels, probabilities_of(probabilities))
    positives, negatives = (counts[0] for counts in ranking.per_score())
    distinct = ranking.distinct
    # Candidate i decides the scores from distinct[i] on as positive; the last one none.
    below, above = np.append(0.0, distinct), np.append(distinct, 1.0)
    halfway = (below + above) / 2
    thresholds = np.where(halfway > below, halfway, above)
    seen = np.append(positives[::-1].cumsum()[::-1], 0)
    false_alarms = np.append(negatives[::-1].cumsum()[::-1], 0)
    if distinct[-1] == 1.0:  # no threshold up to 1 lies above it
        thresholds, seen, false_alarms = thresholds[:-1], seen[:-1], false_alarms[:-1]
    # Youden's index times both class sizes: whole numbers, so that ties are exact.
    index = seen * negatives.sum() - false_alarms * positives.sum()
    best = thresholds[index == index.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])


def summary(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    threshold: float | None,
    groups: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Every metric as `{"value", "low", "high"}`: a 95% percentile bootstrap over whole groups.

    Resamples in which a metric is undefined do not count for that metric. `ppv` and `npv` are left
    out where no image got that decision.

    Args:
      labels: 0 or 1 (N,), or 0 to K-1 for K > 2 classes.
      probabilities: of the finding (N,), or of each class (N, K).
      threshold: decides two classes; None for K > 2, where the most probable class is taken.
      groups: patient ids (N,), drawn together; "" is unknown and a group of its own. None: by image.
      resamples: number of bootstrap draws.
      seed: of the draws.

    Returns:
      Two classes: auc, average_precision, accuracy, balanced_accuracy, sensitivity, specificity, ppv,
      npv, f1, brier. K > 2: auc (mean of one class against the rest), accuracy, balanced_accuracy
      (mean of each class's sensitivity).

    Raises:
      InputError: a class is missing, or an argument is not as described.
    """
    if np.ndim(probabilities) == 2:
        if threshold is not None:
            raise InputError(f"threshold={threshold}; expected None where each class has a probability.")
        measure = _many_classes(labels, probabilities_of(probabilities, ndim=2))
    else:
        measure = _two_classes(labels, probabilities_of(probabilities), threshold)
    if resamples < 1:
        raise InputError(f"resamples={resamples}; expected at least 1.")
    images = np.size(labels)
    draws = [measure(weights) for weights in resample(group_codes(groups, images), resamples, seed)]
    table = {}
    for name, (value,) in measure(np.ones((1, images))).items():
        drawn = np.concatenate([draw[name] for draw in draws])
        drawn = drawn[~np.isnan(drawn)]
        if np.isnan(value):
            continue
        if not drawn.size:
            raise InputError(f"{name} is undefined in all {resamples} resamples; give more.")
        low, high = np.percentile(drawn, _PERCENTILES)
        table[name] = {"value": float(value), "low": float(low), "high": float(high)}
    return table


_Measure = Callable[[np.ndarray], dict[str, np.ndarray]]  # weights (R, N) -> metrics (R,), NaN: undefined


def _two_classes(labels: ArrayLike, values: np.ndarray, threshold: float | None) -> _Measure:
    if threshold is None or not 0 <= threshold <= 1:
        raise InputError(f"threshold={threshold}; expected 0 to 1 for two classes.")
    ranking = _ranking("summary", labels, values)
    decided = (values >= threshold).astype(np.int64)
    squares = (values - ranking.labels) ** 2

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        counts = weighted_confusion(weights, ranking.labels, decided)
        rates = {name: divide(top(counts), base(counts)) for name, (top, base, _) in _RATES.items()}
        return {
            "auc": ranking.auc(weights),
            "average_precision": ranking.average_precision(weights),
            "accuracy": rates.pop("accuracy"),
            "balanced_accuracy": (rates["sensitivity"] + rates["specificity"]) / 2,
            **rates,
            "brier": divide(weights @ squares, weights.sum(axis=1)),
        }

    return measure


def _many_classes(labels: ArrayLike, values: np.ndarray) -> _Measure:
    classes = values.shape[1]
    if classes < 3:
        raise InputError(f"{classes} columns of probabilities; for two classes give the finding's alone, (N,).")
    known = whole_numbers(labels, "label", classes)
    check_length(known, values, "probabilities")
    check_classes("summary", known, classes)
    right = (values.argmax(axis=1) == known).astype(np.float64)
    of_class = np.eye(classes)[known]
    rankings = [Ranking((known == k).astype(np.int64), values[:, k]) for k in range(classes)]

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        recall = divide(weights @ (of_class * right[:, np.newaxis]), weights @ of_class)
        return {
            "auc": np.mean([ranking.auc(weights) for ranking in rankings], axis=0),
            "accuracy": divide(weights @ right, weights.sum(axis=1)),
            "balanced_accuracy": recall.mean(axis=1),
        }

    return measure


def _ranking(metric: str, labels: ArrayLike, scores: np.ndarray) -> Ranking:
    known = whole_numbers(labels, "label", 2)
    check_length(known, scores, "scores")
    check_classes(metric, known, 2)
    return Ranking(known, scores)


def _rate(name: str, labels: ArrayLike, decisions: ArrayLike) -> float:
    top, base, missing = _RATES[name]
    counts = confusion(labels, decisions)
    if not base(counts)[0]:
        raise InputError(f"{name} is undefined: {missing}.")
    return float(top(counts)[0] / base(counts)[0])
