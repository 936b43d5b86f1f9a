"""The figures of a split: one table for `metrics.json`, the screen, the report and the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cxr_tfds.metrics.checks import whole_numbers
from cxr_tfds.metrics.logits import decisions
from cxr_tfds.metrics.resampling import as_confusion, weighted_table
from cxr_tfds.metrics.summary import summary

_SHOWN = (
    "accuracy", "auc", "balanced_accuracy", "average_precision", "sensitivity", "specificity", "ppv", "npv", "f1",
    "brier", "ece",
)  # fmt: skip


def figures(
    labels: ArrayLike,
    probabilities: np.ndarray,
    threshold: float | None,
    patients: Sequence[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    findings: Sequence[str] | None = None,
    ranked_by: ArrayLike | None = None,
) -> dict[str, Any]:
    """Every metric with its 95 % interval, as `metrics.json` holds them.

    Args:
      labels: class numbers (N,).
      probabilities: of the finding (N,), or of each class (N, K).
      threshold: decides two classes; None for more.
      patients: ids (N,), drawn together for the intervals, "" where unknown; None: by image.
      names: of the classes; None: nothing is said of single classes.
      findings: what each image shows (N,), "" where unknown; None: nothing is said of them.
      ranked_by: logits of the finding (N,), where known, see `cxr_tfds.metrics.summary`.

    Returns:
      Metrics as `{"value", "low", "high"}`, see `cxr_tfds.metrics.summary`; the `confusion_matrix`, for two classes
      as `{"tn", "fp", "fn", "tp"}`, for more as rows of true and columns of decided classes; the `threshold` and
      the number of `images`.

    Raises:
      InputError: an argument is not as described.
    """
    table = summary(
        labels,
        probabilities,
        threshold=threshold,
        names=names,
        groups=patients,
        findings=findings,
        ranked_by=ranked_by,
    )
    classes = 2 if threshold is not None else probabilities.shape[1]
    known, ones = whole_numbers(labels, "label", classes), np.ones((1, len(probabilities)))
    counts = weighted_table(ones, known, decisions(probabilities, threshold), classes).astype(int)
    if threshold is None:
        table["confusion_matrix"] = counts[0].tolist()
    else:
        table["confusion_matrix"] = {
            name: int(count[0]) for name, count in as_confusion(counts)._asdict().items()
        }
    return {**table, "threshold": threshold, "images": len(probabilities)}


def as_text(table: dict[str, Any]) -> str:
    """Every figure, a line each, with its interval; below, those of single findings and classes."""
    rows = [f"  {name:<18} {in_words(table[name])}" for name in _SHOWN if name in table]
    for kind, of_kind in table.get("findings", {}).items():
        rows.append(
            f"  {f'found of {kind}':<18} {in_words(of_kind['sensitivity'])}  of {of_kind['images']} images"
        )
    if table["threshold"] is None:
        for name, of_class in table.get("classes", {}).items():
            rows.append(
                f"  {f'recall of {name}':<18} {in_words(of_class['recall'])}  of {of_class['support']} images"
            )
    else:
        rows.append(f"  {'threshold':<18} {table['threshold']:.4f}  (chosen on validation)")
    return "\n".join([*rows, f"  {'images':<18} {table['images']}"])


def in_words(figure: dict[str, Any], digits: int = 4) -> str:
    """`0.9123  (95 % 0.9012 to 0.9234)`, or why there is no such thing."""
    if figure["value"] is None:
        return f"undefined: {figure['undefined']}"
    if figure["low"] is None:
        return f"{figure['value']:.{digits}f}  ({figure['undefined']})"
    return f"{figure['value']:.{digits}f}  (95 % {figure['low']:.{digits}f} to {figure['high']:.{digits}f})"
