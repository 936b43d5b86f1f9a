"""Every metric of a scored split with its 95% interval, which knows what images share a patient. NumPy only.

An interval is a percentile bootstrap (Efron 1979) over whole groups: as many patients as there are are drawn
with replacement, all their images with them, 1000 times. A metric without an answer is None and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cxr_tfds.errors import InputError
from cxr_tfds.metrics.checks import check_length, numbers, probabilities_of, whole_numbers
from cxr_tfds.metrics.logits import decisions
from cxr_tfds.metrics.ranking import Ranking
from cxr_tfds.metrics.reliability import reliability_gaps
from cxr_tfds.metrics.resampling import (
    Confusion,
    as_confusion,
    divide,
    group_codes,
    resample,
    weighted_table,
)

_PERCENTILES = (2.5, 97.5)
_FEWEST_DRAWS = 0.1  # part of the resamples a metric must be defined in for an interval

Key = tuple[str, ...]  # path in the table, such as ("classes", "NORMAL", "recall")


# Numerator, denominator, and what is missing where the denominator is 0 and the rate undefined; {0} and {1}
# are the names of the classes.
RATES: dict[
    str, tuple[Callable[[Confusion], np.ndarray], Callable[[Confusion], np.ndarray], str]
] = {
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


class _Plan(NamedTuple):
    """What to measure: weights (R, N) to metrics (R,), NaN where undefined, and why one may be."""

    measure: Callable[[np.ndarray], dict[Key, np.ndarray]]
    reasons: dict[Key, str]


def summary(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    threshold: float | None,
    names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    findings: Sequence[str] | None = None,
    ranked_by: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Every metric as `{"value", "low", "high"}`; where undefined all three are None and `undefined` says why.

    Resamples in which a metric is undefined do not count for that metric.

    Args:
      labels: 0 or 1 (N,), or 0 to K-1 for K > 2 classes.
      probabilities: of the finding (N,), or of each class (N, K).
      threshold: decides two classes; None for K > 2, where the most probable class is taken.
      names: of the classes, the negative one first; their numbers where None.
      groups: patient ids (N,), drawn together; "" is unknown and a group of its own. None: by image.
      findings: what each image shows (N,), such as "bacteria"; "" where unknown.
      ranked_by: what auc and average_precision rank the images of two classes by (N,), such as logits, which
        stay apart where probabilities round to 1; None: by the probabilities.
      resamples: number of bootstrap draws.
      seed: of the draws.

    Returns:
      Two classes: auc, average_precision, accuracy, balanced_accuracy, sensitivity, specificity, ppv,
      npv, f1, brier, ece. K > 2: auc (mean of one class against the rest), accuracy, balanced_accuracy
      (mean of each class's recall), brier (summed over the classes), ece (of the class decided).
      `classes`, where named: precision, recall and f1 of each, with its `support`, K > 2: and auc.
      `findings`, where there are two or more among the images of a positive class: how many of each were
      decided to be no image of class 0, its sensitivity, and its number of `images`.

    Raises:
      InputError: an argument is not as described.
    """
    if np.ndim(probabilities) == 2:
        values = probabilities_of(probabilities, ndim=2)
        known = _many_labels(labels, values, threshold)
    else:
        values = probabilities_of(probabilities)
        known = _two_labels(labels, values, threshold)
    decided = decisions(values, threshold)
    if resamples < 1:
        raise InputError(f"resamples={resamples}; expected at least 1.")
    classes = values.shape[1] if values.ndim == 2 else 2
    called = tuple(names or map(str, range(classes)))
    plans = [
        _many_classes(known, values, decided, called)
        if values.ndim == 2
        else _two_classes(
            known,
            values,
            decided,
            called,
            values if ranked_by is None else numbers(ranked_by, "scores"),
        )
    ]
    supports: dict[Key, int] = {}
    if names:
        plans.append(_per_class(known, decided, called))
        supports |= {
            ("classes", name, "support"): int((known == k).sum()) for k, name in enumerate(called)
        }
    if findings is not None:
        plan, counts = _per_finding(known, decided, findings)
        plans.append(plan)
        supports |= counts
    codes = group_codes(groups, len(known))
    return _nested({**_with_intervals(plans, codes, resamples, seed), **supports})


def _with_intervals(
    plans: Iterable[_Plan], codes: np.ndarray, resamples: int, seed: int
) -> dict[Key, Any]:
    reasons = {key: why for plan in plans for key, why in plan.reasons.items()}

    def measure(weights: np.ndarray) -> dict[Key, np.ndarray]:
        return {key: value for plan in plans for key, value in plan.measure(weights).items()}

    draws = [measure(weights) for weights in resample(codes, resamples, seed)]
    return {
        key: interval(
            value,
            np.concatenate([draw[key] for draw in draws]),
            reasons.get(key, "there are no images"),
        )
        for key, (value,) in measure(np.ones((1, len(codes)))).items()
    }


def interval(value: float, drawn: np.ndarray, reason: str) -> dict[str, Any]:
    """`{"value", "low", "high"}` of a value and its resamples, of which NaN do not count."""
    if np.isnan(value):
        return {"value": None, "low": None, "high": None, "undefined": reason}
    valid = drawn[~np.isnan(drawn)]
    if valid.size < _FEWEST_DRAWS * drawn.size:
        why = "too few patients for an interval"
        return {"value": float(value), "low": None, "high": None, "undefined": why}
    low, high = np.percentile(valid, _PERCENTILES)
    # Resampling adds scatter, and a sum of absolute gaps (ece) only grows by it: its interval may lie above.
    return {
        "value": float(value),
        "low": min(float(low), float(value)),
        "high": max(float(high), float(value)),
    }


def _nested(flat: dict[Key, Any]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in flat.items():
        place = table
        for name in key[:-1]:
            place = place.setdefault(name, {})
        place[key[-1]] = value
    return table


def _two_labels(labels: ArrayLike, values: np.ndarray, threshold: float | None) -> np.ndarray:
    if threshold is None or not 0 <= threshold <= 1:
        raise InputError(f"threshold={threshold}; expected 0 to 1 for two classes.")
    known = whole_numbers(labels, "label", 2)
    check_length(known, values, "probabilities")
    return known


def _many_labels(labels: ArrayLike, values: np.ndarray, threshold: float | None) -> np.ndarray:
    if threshold is not None:
        raise InputError(
            f"threshold={threshold}; expected None where each class has a probability."
        )
    classes = values.shape[1]
    if classes < 3:
        raise InputError(
            f"{classes} columns of probabilities; for two classes give the finding's alone, (N,)."
        )
    known = whole_numbers(labels, "label", classes)
    check_length(known, values, "probabilities")
    return known


def _missing(known: np.ndarray, names: Sequence[str]) -> str:
    absent = [name for k, name in enumerate(names) if not (known == k).any()]
    return f"no image is labelled {' or '.join(absent)}"


def _two_classes(
    known: np.ndarray,
    values: np.ndarray,
    decided: np.ndarray,
    names: Sequence[str],
    ranked_by: np.ndarray,
) -> _Plan:
    check_length(known, ranked_by, "scores")
    ranking = Ranking(known, ranked_by)
    squares, gaps = (values - known) ** 2, reliability_gaps(values, known)

    def measure(weights: np.ndarray) -> dict[Key, np.ndarray]:
        counts, total = (
            as_confusion(weighted_table(weights, known, decided, 2)),
            weights.sum(axis=1),
        )
        rates = {name: divide(top(counts), base(counts)) for name, (top, base, _) in RATES.items()}
        table = {
            "auc": ranking.auc(weights),
            "average_precision": ranking.average_precision(weights),
            "accuracy": rates.pop("accuracy"),
            "balanced_accuracy": (rates["sensitivity"] + rates["specificity"]) / 2,
            **rates,
            "brier": divide(weights @ squares, total),
            "ece": divide(np.abs(weights @ gaps).sum(axis=1), total),
        }
        return {(name,): value for name, value in table.items()}

    reasons: dict[Key, str] = {(name,): why.format(*names) for name, (_, _, why) in RATES.items()}
    absent = _missing(known, names)
    return _Plan(
        measure,
        reasons | {(name,): absent for name in ("auc", "average_precision", "balanced_accuracy")},
    )


def _many_classes(
    known: np.ndarray, values: np.ndarray, decided: np.ndarray, names: Sequence[str]
) -> _Plan:
    of_class = np.eye(len(names))[known]
    right = (decided == known).astype(np.float64)
    squares, gaps = (
        ((values - of_class) ** 2).sum(axis=1),
        reliability_gaps(values.max(axis=1), right),
    )
    rankings = [Ranking((known == k).astype(np.int64), values[:, k]) for k in range(len(names))]

    def measure(weights: np.ndarray) -> dict[Key, np.ndarray]:
        recall = divide(weights @ (of_class * right[:, np.newaxis]), weights @ of_class)
        aucs, total = [ranking.auc(weights) for ranking in rankings], weights.sum(axis=1)
        table = {
            ("auc",): np.mean(aucs, axis=0),
            ("accuracy",): divide(weights @ right, total),
            ("balanced_accuracy",): recall.mean(axis=1),
            ("brier",): divide(weights @ squares, total),
            ("ece",): divide(np.abs(weights @ gaps).sum(axis=1), total),
        }
        return table | {
            ("classes", name, "auc"): value for name, value in zip(names, aucs, strict=True)
        }

    absent = _missing(known, names)
    keys: list[Key] = [
        ("auc",),
        ("balanced_accuracy",),
        *(("classes", name, "auc") for name in names),
    ]
    return _Plan(measure, dict.fromkeys(keys, absent))


def _per_class(known: np.ndarray, decided: np.ndarray, names: Sequence[str]) -> _Plan:
    def measure(weights: np.ndarray) -> dict[Key, np.ndarray]:
        counts = weighted_table(weights, known, decided, len(names))
        hits = np.diagonal(counts, axis1=1, axis2=2)
        called, there = counts.sum(axis=1), counts.sum(axis=2)
        rates = {
            "precision": divide(hits, called),
            "recall": divide(hits, there),
            "f1": divide(2 * hits, (called + there) * (there > 0)),
        }
        return {
            ("classes", name, rate): value[:, k]
            for k, name in enumerate(names)
            for rate, value in rates.items()
        }

    reasons: dict[Key, str] = {}
    for name in names:
        reasons["classes", name, "precision"] = f"no image was decided to be {name}"
        reasons |= dict.fromkeys(
            [("classes", name, "recall"), ("classes", name, "f1")], f"no image is labelled {name}"
        )
    return _Plan(measure, reasons)


def _per_finding(
    known: np.ndarray, decided: np.ndarray, findings: Sequence[str]
) -> tuple[_Plan, dict[Key, int]]:
    shown = np.asarray(findings)
    check_length(known, shown, "findings")
    kinds = sorted(set(shown[known > 0].tolist()) - {""})
    if len(kinds) < 2:
        return _Plan(lambda weights: {}, {}), {}
    members = np.stack([(shown == kind) & (known > 0) for kind in kinds], axis=1).astype(np.float64)
    found = members * (decided > 0)[:, np.newaxis]

    def measure(weights: np.ndarray) -> dict[Key, np.ndarray]:
        rates = divide(weights @ found, weights @ members)
        return {("findings", kind, "sensitivity"): rates[:, k] for k, kind in enumerate(kinds)}

    counts: dict[Key, int] = {
        ("findings", kind, "images"): int(members[:, k].sum()) for k, kind in enumerate(kinds)
    }
    return _Plan(measure, {}), counts
