"""Operating points: thresholds with the sensitivity and specificity they have. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cxr_tfds.metrics.thresholds import YOUDEN, best_threshold

RULES = (YOUDEN, *(f"sensitivity>={x:.2f}" for x in (0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99)))


def operating_points(labels: np.ndarray, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """Returns an operating point for each of `RULES`, or none if a class is missing.

    Args:
      labels: 0 or 1 (N,).
      probabilities: Of the finding (N,), 0 to 1.

    Returns:
      For each point `rule`, `threshold`, the `sensitivity` and `specificity` of these images at the
      threshold, and the numbers of `positives` and `negatives` they were measured on.
    """
    positives, negatives = probabilities[labels == 1], probabilities[labels == 0]
    if not len(positives) or not len(negatives):
        return []
    points = []
    for rule in RULES:
        threshold = min(best_threshold(labels, probabilities, rule), 1.0)
        points.append(
            {
                "rule": rule,
                "threshold": threshold,
                "sensitivity": float((positives >= threshold).mean()),
                "specificity": float((negatives < threshold).mean()),
                "positives": len(positives),
                "negatives": len(negatives),
            }
        )
    return points


def choose_point(
    points: Sequence[Mapping[str, Any]], sensitivity: float
) -> Mapping[str, Any] | None:
    """Returns the most specific point that has at least a sensitivity, or None."""
    enough = [point for point in points if point["sensitivity"] >= sensitivity - 1e-9]
    return max(enough, key=lambda point: (point["specificity"], point["threshold"]), default=None)
