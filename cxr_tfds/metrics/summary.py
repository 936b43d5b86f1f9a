"""Every metric of a scored split with its 95% bootstrap interval. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cxr_tfds.metrics.logits import decisions
from cxr_tfds.metrics.ranking import as_finite, rank_classes
from cxr_tfds.metrics.reliability import reliability_gaps
from cxr_tfds.metrics.resampling import (
    RESAMPLES,
    bootstrap_interval,
    bootstrap_weights,
    confusion_tables,
    divide,
    number_groups,
)

_Key = tuple[str, ...]  # path in the table, such as ("classes", "NORMAL", "recall")
# Weights (R, N) to metrics (R,), NaN where undefined
_Measure = Callable[[np.ndarray], dict[_Key, np.ndarray]]


def evaluate_split(
    labels: ArrayLike,
    probabilities: ArrayLike,
    threshold: float | None,
    patients: Sequence[str] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    findings: Sequence[str] | None = None,
    ranking_scores: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    advance: Callable[[int], object] = lambda count: None,
) -> dict[str, Any]:
    """Returns every metric of a split, as `metrics.json` stores it.

    Args:
      labels: 0 or 1 (N,), or 0 to K - 1 for K > 2 classes.
      probabilities: Of the finding (N,), or of each class (N, K).
      threshold: Decides two classes. None for K > 2: the most probable class is predicted.
      patients: Patient ids (N,), resampled together; "" where unknown. None resamples images.
      class_names: The negative class first. None leaves `classes` and `averages` out.
      findings: Finding of each image (N,), such as "bacteria"; "" where unknown. None leaves
        `findings` out.
      ranking_scores: Scores (N,) that rank the images of two classes for `auc` and
        `average_precision`, such as logits, which stay distinct where probabilities round to 1.
        None ranks by probability.
      resamples: Number of bootstrap resamples.
      seed: Seed of the resamples.
      advance: Takes the number of finished resamples since its last call.

    Returns:
      Metrics as `{"value", "low", "high"}`, see `cxr_tfds.metrics.resampling.bootstrap_interval`:
      auc (K > 2: mean of each class against the rest), accuracy, balanced_accuracy, brier (K > 2:
      summed over the classes) and ece (K > 2: of the predicted class); for two classes also
      average_precision, sensitivity, specificity, ppv, npv and f1.
      `rule`: the positive class and its threshold, for two classes with names.
      `classes`: precision, recall, f1 and `support` of each class, for K > 2 also auc.
      `averages`: the means of precision, recall and f1 over the classes, `macro` with equal
        weights and `weighted` by the number of images.
      `findings`, if the positive images have at least two: `sensitivity` (predicted as any class
      but the first) and number of `images` of each.
      `confusion_matrix`: `{"tn", "fp", "fn", "tp"}`, or for K > 2 a row for each true class and a
      column for each predicted class.
      `threshold` and number of `images`.

    Raises:
      InputError: A probability or a score is NaN or infinite.
    """
    summary = SplitMetrics(
        labels, probabilities, threshold, class_names, findings=findings, scores=ranking_scores
    )
    groups = number_groups(patients, summary.images)
    resampled = bootstrap_weights(groups, resamples, seed, advance)
    drawn = [summary.measure(weights) for weights in resampled]
    table = summary.table(drawn)
    if class_names and threshold is not None:
        table["rule"] = {"class": class_names[1], "threshold": threshold}
    if not class_names:
        del table["classes"], table["averages"]
    return table


class SplitMetrics:
    """The metrics of a split as functions of the weights of its images.

    For the arguments see `evaluate_split`; `scores` are its `ranking_scores`.
    """

    def __init__(
        self,
        labels: ArrayLike,
        probabilities: ArrayLike,
        threshold: float | None,
        class_names: Sequence[str] | None,
        *,
        findings: Sequence[str] | None = None,
        scores: ArrayLike | None = None,
    ) -> None:
        known, values = np.asarray(labels), as_finite(probabilities, "probabilities")
        self.labels, self.threshold, self.images = known, threshold, len(known)
        self.classes = 2 if values.ndim == 1 else values.shape[1]
        self.names = tuple(class_names or map(str, range(self.classes)))
        self._predicted = decisions(values, threshold)
        self._members = _members(known, findings) if findings is not None else {}
        self._measure_classes = _measure_classes(
            known,
            values,
            self._predicted,
            self.names,
            values if scores is None else as_finite(scores, "scores"),
        )

    def measure(self, weights: np.ndarray) -> dict[_Key, np.ndarray]:
        """Returns each metric (R,) under weights (R, N), NaN where undefined."""
        return self._measure_classes(weights) | {
            ("findings", name, "sensitivity"): divide(
                weights @ (images & (self._predicted > 0)), weights @ images
            )
            for name, images in self._members.items()
        }

    def table(self, drawn: Sequence[dict[_Key, np.ndarray]]) -> dict[str, Any]:
        """Returns the table that `evaluate_split` describes; `drawn` are measures of resamples."""
        counts = np.bincount(self.labels, minlength=self.classes).tolist()
        supports = dict(zip(self.names, counts, strict=True))
        missing = " or ".join(name for name, support in supports.items() if not support)
        flat: dict[_Key, Any] = {}
        every_image = np.ones((1, self.images))
        for key, (value,) in self.measure(every_image).items():
            resampled = np.concatenate([metrics[key] for metrics in drawn])
            flat[key] = bootstrap_interval(value, resampled)
            if flat[key]["value"] is None:
                flat[key]["undefined"] = _reason(key, self.names, missing)
        for name, support in supports.items():
            flat["classes", name, "support"] = support
        for name, images in self._members.items():
            flat["findings", name, "images"] = int(images.sum())
        tables = confusion_tables(every_image, self.labels, self._predicted, self.classes)
        matrix: Any = tables[0].astype(int).tolist()
        if self.classes == 2:
            (tn, fp), (fn, tp) = matrix
            matrix = {"tn": tn, "fp": fp, "fn": fn, "tp": tp}
        return {
            **_nest(flat),
            "confusion_matrix": matrix,
            "threshold": self.threshold,
            "images": self.images,
        }


def _reason(key: _Key, names: Sequence[str], missing: str) -> str:
    """Returns why a metric is undefined; `missing` names the classes without images."""
    *path, metric = key
    if path[:1] == ["averages"]:
        return "undefined for a class"
    if metric in ("auc", "average_precision", "balanced_accuracy"):
        name = missing
    else:
        name = path[1] if path else names[0 if metric in ("specificity", "npv") else 1]
    verb = "was predicted as" if metric in ("precision", "ppv", "npv") else "is labelled"
    return f"no image {verb} {name}"


def _nest(flat: dict[_Key, Any]) -> dict[str, Any]:
    """Returns the values as a dictionary of dictionaries, by their keys' paths."""
    table: dict[str, Any] = {}
    for (*parents, name), value in flat.items():
        inner = table
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = value
    return table


def _measure_classes(
    labels: np.ndarray,
    values: np.ndarray,
    predicted: np.ndarray,
    names: Sequence[str],
    scores: np.ndarray,
) -> _Measure:
    """Returns the measure of all metrics except the sensitivities to findings."""
    two = values.ndim == 1
    if two:
        squares, gaps = (values - labels) ** 2, reliability_gaps(values, labels)
    else:
        squares = ((values - np.eye(len(names))[labels]) ** 2).sum(axis=1)
        gaps = reliability_gaps(values.max(axis=1), predicted == labels)
    rankings = rank_classes(labels, scores if two else values)

    def measure(weights: np.ndarray) -> dict[_Key, np.ndarray]:
        tables = confusion_tables(weights, labels, predicted, len(names))
        hits = np.diagonal(tables, axis1=1, axis2=2)
        positives, actual, total = tables.sum(axis=1), tables.sum(axis=2), weights.sum(axis=1)
        precision, recall = divide(hits, positives), divide(hits, actual)
        f1 = divide(2 * hits, (positives + actual) * (actual > 0))
        aucs = np.stack([ranking.auc(weights) for ranking in rankings], axis=1)
        metrics = {"auc": aucs.mean(axis=1)}
        if two:
            metrics["average_precision"] = rankings[0].average_precision(weights)
        metrics["accuracy"] = divide(hits.sum(axis=1), total)
        metrics["balanced_accuracy"] = recall.mean(axis=1)
        if two:
            metrics |= {"sensitivity": recall[:, 1], "specificity": recall[:, 0]}
            metrics |= {"ppv": precision[:, 1], "npv": precision[:, 0], "f1": f1[:, 1]}
        metrics["brier"] = divide(weights @ squares, total)
        metrics["ece"] = divide(np.abs(weights @ gaps).sum(axis=1), total)
        rates = {"precision": precision, "recall": recall, "f1": f1}
        averages: dict[_Key, np.ndarray] = {
            ("averages", kind, rate): mean
            for rate, of in rates.items()
            for kind, mean in _average(of, actual).items()
        }
        if not two:
            rates["auc"] = aucs
        return (
            {(name,): metric for name, metric in metrics.items()}
            | {
                ("classes", name, rate): metric[:, k]
                for k, name in enumerate(names)
                for rate, metric in rates.items()
            }
            | averages
        )

    return measure


def _average(rates: np.ndarray, images: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the means (R,) of a rate (R, K) of classes with so many images (R, K)."""
    weighted = np.where(images > 0, rates * images, 0)
    return {
        "macro": rates.mean(axis=1),
        "weighted": divide(weighted.sum(axis=1), images.sum(axis=1)),
    }


def _members(labels: np.ndarray, findings: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns which positive images have each finding, bool (N,), if there are at least two."""
    known = np.where(labels > 0, findings, "")
    names = [str(name) for name in np.unique(known) if name]
    return {name: known == name for name in names} if len(names) > 1 else {}
