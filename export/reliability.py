"""Counts what a file's probabilities meant on the validation split. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cxr_tfds.metrics.logits import probabilities
from cxr_tfds.metrics.reliability import count_outcomes

from .check import Reference

Counts = dict[str, dict[str, list[int]]]


def count_reliability(
    validation: Reference | Mapping[str, Reference],
    logits: np.ndarray,
    temperature: float | tuple[float, ...],
    labels: Sequence[str],
) -> Counts:
    """Returns how many images of each class have a probability in each of 15 equal bins.

    Args:
      validation: Labels of the validation split, for several findings by finding.
      logits: The exported model's logits in the same order, (N,) or (N, K).
      temperature: The file's temperature, for several findings one for each.
      labels: Class names in class order, or names of the findings.

    Returns:
      By name of the positive class, of every class if there are more than two, or of the finding:
      `{"images": [15 counts], "positives": [15 counts]}`. Images without a label do not count.
    """
    if not isinstance(validation, Reference):
        values = probabilities(logits, temperature, several_findings=True)
        return {
            name: _count(values[:, number], reference.labels == 1, reference.counted)
            for number, (name, reference) in enumerate(validation.items())
        }
    values = probabilities(logits, temperature)
    if values.ndim == 1:
        return {labels[1]: _count(values, validation.labels == 1)}
    return {
        name: _count(values[:, number], validation.labels == number)
        for number, name in enumerate(labels)
    }


def _count(values: np.ndarray, outcomes: np.ndarray, counted: Any = slice(None)) -> dict[str, Any]:
    images, positives = count_outcomes(values[counted], outcomes[counted])
    return {"images": images.tolist(), "positives": positives.tolist()}
