"""Every metric of a scored split with its 95% bootstrap interval. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cxr_tfds.errors import InputError
from cxr_tfds.metrics.checks import as_finite, as_labels, as_probabilities, check_length
from cxr_tfds.metrics.logits import decisions
from cxr_tfds.metrics.ranking import rank_classes
from cxr_tfds.metrics.reliability import reliability_gaps
from cxr_tfds.metrics.resampling import (
    bootstrap_interval,
    bootstrap_weights,
    confusion_tables,
    divide,
    number_groups,
)

_Key = tuple[str, ...]  # path in the table, such as ("classes", "NORMAL", "recall")


class _Plan(NamedTuple):
    """Metrics to measure on resamples.

    `measure` maps weights (R, N) to metrics (R,), NaN where undefined. `reasons` says why a metric
    may be undefined.
    """

    measure: Callable[[np.ndarray], dict[_Key, np.ndarray]]
    reasons: dict[_Key, str]


def evaluate_split(
    labels: ArrayLike,
    probabilities: ArrayLike,
    threshold: float | None,
    patients: Sequence[str] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    findings: Sequence[str] | None = None,
    ranking_scores: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Returns every metric of a split, as `metrics.json` stores it.

    Args:
      labels: 0 or 1 (N,), or 0 to K - 1 for K > 2 classes.
      probabilities: Of the finding (N,), or of each class (N, K).
      threshold: Decides two classes. None for K > 2: the most probable class is predicted.
      patients: Patient ids (N,), resampled together; "" where unknown. None resamples images.
      class_names: The negative class first. None leaves `classes` out.
      findings: Finding of each image (N,), such as "bacteria"; "" where unknown. None leaves
        `findings` out.
      ranking_scores: Scores (N,) that rank the images of two classes for `auc` and
        `average_precision`, such as logits, which stay distinct where probabilities round to 1.
        None ranks by probability.
      resamples: Number of bootstrap resamples.
      seed: Seed of the resamples.

    Returns:
      Metrics as `{"value", "low", "high"}`, see `cxr_tfds.metrics.resampling.bootstrap_interval`:
      auc (K > 2: mean of each class against the rest), accuracy, balanced_accuracy, brier (K > 2:
      summed over the classes) and ece (K > 2: of the predicted class); for two classes also
      average_precision, sensitivity, specificity, ppv, npv and f1.
      `classes`: precision, recall, f1 and `support` of each class, for K > 2 also auc.
      `findings`, if the positive images have at least two: `sensitivity` (predicted as any class
      but the first) and number of `images` of each.
      `confusion_matrix`: `{"tn", "fp", "fn", "tp"}`, or for K > 2 a row for each true class with a
        column
      for each predicted class.
      `threshold` and number of `images`.

    Raises:
      InputError: An argument is not as described.
    """
    values, known = _check(labels, probabilities, threshold)
    if resamples < 1:
        raise InputError(f"resamples={resamples}; expected at least 1.")
    predicted = decisions(values, threshold)
    scores = values if ranking_scores is None else as_finite(ranking_scores, "scores")
    classes = 2 if values.ndim == 1 else values.shape[1]
    names = tuple(class_names or map(str, range(classes)))
    plans = [_overall(known, values, predicted, names, scores)]
    counts: dict[_Key, int] = {}
    if class_names:
        plans.append(_per_class(known, predicted, names))
        counts |= {
            ("classes", name, "support"): int((known == k).sum()) for k, name in enumerate(names)
        }
    if findings is not None:
        plan, images = _per_finding(known, predicted, findings)
        plans.append(plan)
        counts |= images
    groups = number_groups(patients, len(known))
    table = _nest({**_with_intervals(plans, groups, resamples, seed), **counts})
    matrix: Any = confusion_tables(np.ones((1, len(known))), known, predicted, classes)[0]
    matrix = matrix.astype(int).tolist()
    if classes == 2:
        (tn, fp), (fn, tp) = matrix
        matrix = {"tn": tn, "fp": fp, "fn": fn, "tp": tp}
    return {**table, "confusion_matrix": matrix, "threshold": threshold, "images": len(known)}


def _check(
    labels: ArrayLike, probabilities: ArrayLike, threshold: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the probabilities and labels as arrays, see `evaluate_split`."""
    many = np.ndim(probabilities) == 2
    values = as_probabilities(probabilities, ndim=2 if many else 1)
    if many and threshold is not None:
        raise InputError(f"threshold={threshold}; expected None for a probability of each class.")
    if many and values.shape[1] < 3:
        raise InputError(
            f"probabilities of {values.shape[1]} columns; for two classes, give one of shape (N,)."
        )
    if not many and (threshold is None or not 0 <= threshold <= 1):
        raise InputError(f"threshold={threshold}; expected 0 to 1 for two classes.")
    known = as_labels(labels, values.shape[1] if many else 2)
    check_length(known, values, "probabilities")
    return values, known


def _with_intervals(
    plans: Sequence[_Plan], groups: np.ndarray, resamples: int, seed: int
) -> dict[_Key, Any]:
    reasons = {key: reason for plan in plans for key, reason in plan.reasons.items()}

    def measure(weights: np.ndarray) -> dict[_Key, np.ndarray]:
        return {key: value for plan in plans for key, value in plan.measure(weights).items()}

    drawn = [measure(weights) for weights in bootstrap_weights(groups, resamples, seed)]
    return {
        key: bootstrap_interval(
            value, np.concatenate([metrics[key] for metrics in drawn]), reasons.get(key, "")
        )
        for key, (value,) in measure(np.ones((1, len(groups)))).items()
    }


def _nest(flat: dict[_Key, Any]) -> dict[str, Any]:
    """Returns the values as a dictionary of dictionaries, by their keys' paths."""
    table: dict[str, Any] = {}
    for (*parents, name), value in flat.items():
        inner = table
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = value
    return table


def _overall(
    labels: np.ndarray,
    values: np.ndarray,
    predicted: np.ndarray,
    names: Sequence[str],
    scores: np.ndarray,
) -> _Plan:
    """Returns the metrics of all classes together, see `evaluate_split`."""
    two = values.ndim == 1
    if two:
        check_length(labels, scores, "scores")
        squares, gaps = (values - labels) ** 2, reliability_gaps(values, labels)
    else:
        truth = np.eye(len(names))[labels]
        squares = ((values - truth) ** 2).sum(axis=1)
        gaps = reliability_gaps(values.max(axis=1), predicted == labels)
    rankings = rank_classes(labels, scores if two else values)

    def measure(weights: np.ndarray) -> dict[_Key, np.ndarray]:
        precision, recall, f1 = _rates(weights, labels, predicted, len(names))
        aucs, total = [ranking.auc(weights) for ranking in rankings], weights.sum(axis=1)
        metrics = {"auc": np.mean(aucs, axis=0)}
        if two:
            metrics["average_precision"] = rankings[0].average_precision(weights)
        metrics["accuracy"] = divide(weights @ (predicted == labels), total)
        metrics["balanced_accuracy"] = recall.mean(axis=1)
        if two:
            metrics |= {
                "sensitivity": recall[:, 1],
                "specificity": recall[:, 0],
                "ppv": precision[:, 1],
                "npv": precision[:, 0],
                "f1": f1[:, 1],
            }
        metrics["brier"] = divide(weights @ squares, total)
        metrics["ece"] = divide(np.abs(weights @ gaps).sum(axis=1), total)
        of_classes = {} if two else dict(zip(names, aucs, strict=True))
        return {(name,): metric for name, metric in metrics.items()} | {
            ("classes", name, "auc"): auc for name, auc in of_classes.items()
        }

    missing = [name for k, name in enumerate(names) if not (labels == k).any()]
    keys: list[_Key] = [("auc",), ("average_precision",), ("balanced_accuracy",)]
    keys += [("classes", name, "auc") for name in names]
    reasons = dict.fromkeys(keys, _unlabelled(" or ".join(missing)))
    if two:
        reasons |= {("sensitivity",): _unlabelled(names[1]), ("f1",): _unlabelled(names[1])}
        reasons |= {("specificity",): _unlabelled(names[0])}
        reasons |= {("ppv",): _unpredicted(names[1]), ("npv",): _unpredicted(names[0])}
    return _Plan(measure, reasons)


def _per_class(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> _Plan:
    def measure(weights: np.ndarray) -> dict[_Key, np.ndarray]:
        rates = _rates(weights, labels, predicted, len(names))
        return {
            ("classes", name, rate): metric[:, k]
            for k, name in enumerate(names)
            for rate, metric in zip(("precision", "recall", "f1"), rates, strict=True)
        }

    reasons: dict[_Key, str] = {}
    for name in names:
        reasons["classes", name, "precision"] = _unpredicted(name)
        reasons["classes", name, "recall"] = reasons["classes", name, "f1"] = _unlabelled(name)
    return _Plan(measure, reasons)


def _rates(
    weights: np.ndarray, labels: np.ndarray, predicted: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns precision, recall and F1 of each class, (R, K) each."""
    tables = confusion_tables(weights, labels, predicted, classes)
    hits = np.diagonal(tables, axis1=1, axis2=2)
    positives, actual = tables.sum(axis=1), tables.sum(axis=2)
    f1 = divide(2 * hits, (positives + actual) * (actual > 0))
    return divide(hits, positives), divide(hits, actual), f1


def _per_finding(
    labels: np.ndarray, predicted: np.ndarray, findings: Sequence[str]
) -> tuple[_Plan, dict[_Key, int]]:
    """Returns the sensitivity to each finding of the positive images, and its number of images."""
    known = np.asarray(findings)
    check_length(labels, known, "findings")
    names = sorted(set(known[labels > 0].tolist()) - {""})
    if len(names) < 2:
        return _Plan(lambda weights: {}, {}), {}
    members = np.stack([(known == name) & (labels > 0) for name in names], axis=1).astype(
        np.float64
    )
    hits = members * (predicted > 0)[:, np.newaxis]

    def measure(weights: np.ndarray) -> dict[_Key, np.ndarray]:
        rates = divide(weights @ hits, weights @ members)
        return {("findings", name, "sensitivity"): rates[:, k] for k, name in enumerate(names)}

    images = members.sum(axis=0).astype(int).tolist()
    return _Plan(measure, {}), {
        ("findings", name, "images"): count for name, count in zip(names, images, strict=True)
    }


def _unlabelled(name: str) -> str:
    return f"no image is labelled {name}"


def _unpredicted(name: str) -> str:
    return f"no image was predicted as {name}"
