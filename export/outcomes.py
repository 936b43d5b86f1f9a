"""Describes what a file's probabilities meant on the validation split. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cxr_tfds.metrics.logits import probabilities
from cxr_tfds.metrics.operating_points import operating_points
from cxr_tfds.metrics.reliability import count_outcomes

from .check import Reference


def describe_outcomes(
    validation: Reference | Mapping[str, Reference],
    logits: np.ndarray,
    temperature: float | tuple[float, ...],
    labels: Sequence[str],
) -> dict[str, Any]:
    """Returns the fields `reliability` and `operating_points` of the model info.

    Args:
      validation: Labels of the validation split, for several findings by finding.
      logits: The exported model's logits in the same order, (N,) or (N, K).
      temperature: The file's temperature, for several findings one for each.
      labels: Class names in class order, or names of the findings.

    Returns:
      Both by name of the positive class or of the finding. `reliability` counts the images in each
      of 15 equal bins of the probability: `{"images": [15 counts], "positives": [15 counts]}`.
      Images without a label do not count. More than two classes have the counts of every class, but
      no threshold and therefore no operating points.
    """
    several = not isinstance(validation, Reference)
    values = probabilities(logits, temperature, several_findings=several)
    if not isinstance(validation, Reference):
        known = {
            name: (reference.known_labels, values[reference.counted, number])
            for number, (name, reference) in enumerate(validation.items())
        }
    elif values.ndim == 1:
        known = {labels[1]: (validation.labels, values)}
    else:
        known = {
            name: (validation.labels == number, values[:, number])
            for number, name in enumerate(labels)
        }
    has_threshold = several or values.ndim == 1
    return {
        "reliability": {name: _count(*each) for name, each in known.items()},
        "operating_points": {
            name: operating_points(*each) for name, each in known.items() if has_threshold
        },
    }


def _count(labels: np.ndarray, values: np.ndarray) -> dict[str, list[int]]:
    images, positives = count_outcomes(values, labels == 1)
    return {"images": images.tolist(), "positives": positives.tolist()}
