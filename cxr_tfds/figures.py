"""The figures of a split: one table for `metrics.json`, the screen, the report and the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cxr_tfds import metrics

_SHOWN = ("accuracy", "auc", "sensitivity", "specificity")


def figures(
    labels: ArrayLike, probabilities: np.ndarray, threshold: float | None, patients: Sequence[str] | None = None
) -> dict[str, Any]:
    """Every metric with its 95 % interval, as `metrics.json` holds them.

    Args:
      labels: class numbers (N,).
      probabilities: of the finding (N,), or of each class (N, K).
      threshold: decides two classes; None for more.
      patients: ids (N,), drawn together for the intervals, "" where unknown; None: by image.

    Returns:
      Metrics as `{"value", "low", "high"}`, the number of `images`, the `threshold`, and for two
      classes the `confusion_matrix`.

    Raises:
      InputError: a class is missing, so that a metric is undefined.
    """
    table: dict[str, Any] = dict(metrics.summary(labels, probabilities, threshold=threshold, groups=patients))
    if threshold is not None:
        table["confusion_matrix"] = metrics.confusion_matrix(labels, probabilities >= threshold)
    return {**table, "threshold": threshold, "images": len(probabilities)}


def as_text(table: dict[str, Any]) -> str:
    """The main figures, a line each, with their intervals."""
    rows = [
        f"  {name:<12} {table[name]['value']:.4f}  (95 % {table[name]['low']:.4f} to {table[name]['high']:.4f})"
        for name in _SHOWN
        if name in table
    ]
    if table["threshold"] is not None:
        rows.append(f"  {'threshold':<12} {table['threshold']:.4f}  (chosen on validation)")
    return "\n".join([*rows, f"  {'images':<12} {table['images']}"])
