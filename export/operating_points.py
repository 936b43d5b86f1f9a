"""Collects the operating points of an exported model on the validation split. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cxr_tfds.metrics.logits import probabilities
from cxr_tfds.metrics.operating_points import operating_points

from .check import Reference


def collect_points(
    validation: Reference | Mapping[str, Reference],
    logits: np.ndarray,
    temperature: float | tuple[float, ...],
    labels: Sequence[str],
) -> dict[str, list[dict[str, Any]]]:
    """Returns the operating points of the positive class or of each finding, by name.

    For the arguments see `reliability.count_reliability`. More than two classes have no threshold
    and therefore no points, nor has a finding without both present and absent images.
    """
    if not isinstance(validation, Reference):
        values = probabilities(logits, temperature, several_findings=True)
        return {
            name: operating_points(reference.known_labels, values[reference.counted, number])
            for number, (name, reference) in enumerate(validation.items())
        }
    if logits.ndim > 1:
        return {}
    return {labels[1]: operating_points(validation.labels, probabilities(logits, temperature))}
