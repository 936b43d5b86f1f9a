"""The metrics of each of several findings, and their means, with intervals. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cxr_tfds.metrics.resampling import (
    RESAMPLES,
    bootstrap_interval,
    bootstrap_weights,
    number_groups,
)
from cxr_tfds.metrics.summary import SplitMetrics

_METRICS = (
    "auc", "average_precision", "accuracy", "balanced_accuracy", "sensitivity", "specificity",
    "ppv", "npv", "f1", "brier", "ece",
)  # fmt: skip


def evaluate_findings(
    targets: ArrayLike,
    probabilities: ArrayLike,
    thresholds: Sequence[float],
    patients: Sequence[str] | None = None,
    *,
    names: Sequence[str],
    ranking_scores: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    advance: Callable[[int], object] = lambda count: None,
) -> dict[str, Any]:
    """Returns every metric of each finding and their means, as `metrics.json` stores them.

    All findings share the resamples, so that the interval of a mean takes into account that the
    findings of a patient belong together.

    Args:
      targets: 1 present, 0 absent, NaN where the finding does not count (N, K).
      probabilities: Of each finding (N, K).
      thresholds: Of each finding (K,).
      patients: Patient ids (N,), resampled together; "" where unknown. None resamples images.
      names: Names of the findings (K,).
      ranking_scores: Scores (N, K) that rank the images, such as logits; by default the
        probabilities.
      resamples: Number of bootstrap resamples.
      seed: Seed of the resamples.
      advance: Takes the number of finished resamples since its last call.

    Returns:
      `task`: "findings". `findings`: for each name the metrics of two classes, see
      `cxr_tfds.metrics.summary.evaluate_split`, of the images that count: auc, average_precision,
      accuracy, balanced_accuracy, sensitivity, specificity, ppv, npv, f1, brier, ece,
      confusion_matrix, threshold, number of `images` and of `positives` among them.
      Each of the metrics again: its mean over the findings for which it is defined.
      `images`: number of all images.

    Raises:
      InputError: A probability or a score is NaN or infinite.
    """
    known, values = np.asarray(targets), np.asarray(probabilities)
    scores = values if ranking_scores is None else np.asarray(ranking_scores)
    counted = ~np.isnan(known)
    summaries = {
        name: SplitMetrics(
            known[counted[:, k], k].astype(np.int64),
            values[counted[:, k], k],
            float(thresholds[k]),
            (f"{name} absent", f"{name} present"),
            scores=scores[counted[:, k], k],
        )
        for k, name in enumerate(names)
        if counted[:, k].any()
    }
    columns = [counted[:, k] for k in range(len(names)) if counted[:, k].any()]
    drawn: dict[str, list[Any]] = {name: [] for name in summaries}
    groups = number_groups(patients, len(known))
    for weights in bootstrap_weights(groups, resamples, seed, advance):
        for (name, summary), column in zip(summaries.items(), columns, strict=True):
            drawn[name].append(summary.measure(weights[:, column]))
    tables: dict[str, dict[str, Any]] = {}
    for k, name in enumerate(names):
        if name in summaries:
            table = summaries[name].table(drawn[name])
            del table["classes"], table["averages"]
            positives = table["confusion_matrix"]["fn"] + table["confusion_matrix"]["tp"]
            tables[name] = {**table, "positives": positives}
        else:
            tables[name] = _empty_table(name, float(thresholds[k]))
    means = {metric: _mean(metric, tables, drawn) for metric in _METRICS}
    return {"task": "findings", **means, "findings": tables, "images": len(known)}


def _empty_table(name: str, threshold: float) -> dict[str, Any]:
    """Returns the table of a finding that counts in no image."""
    undefined = f"no image has a known state of {name}"
    metric = {"value": None, "low": None, "high": None, "undefined": undefined}
    return {
        **{name: dict(metric) for name in _METRICS},
        "confusion_matrix": dict.fromkeys(("tn", "fp", "fn", "tp"), 0),
        "threshold": threshold,
        "images": 0,
        "positives": 0,
    }


def _mean(
    metric: str, tables: dict[str, dict[str, Any]], drawn: dict[str, list[Any]]
) -> dict[str, Any]:
    """Returns the mean of a metric over the findings for which it is defined."""
    defined = [name for name, table in tables.items() if table[metric]["value"] is not None]
    if not defined:
        return bootstrap_interval(np.nan, np.array([])) | {
            "undefined": "undefined for all findings"
        }
    resampled = [np.concatenate([part[metric,] for part in drawn[name]]) for name in defined]
    value = float(np.mean([tables[name][metric]["value"] for name in defined]))
    # A resample in which one of the findings is undefined has no mean that can be compared.
    return bootstrap_interval(value, np.mean(resampled, axis=0))
