"""Compares an exported model with the Keras model it came from. NumPy only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cxr_tfds.metrics.logits import decisions, logit, probabilities, sigmoid
from cxr_tfds.metrics.ranking import auc
from cxr_tfds.metrics.temperature import fit_temperature
from cxr_tfds.metrics.thresholds import best_threshold


class Reference(NamedTuple):
    """The Keras model on a split."""

    labels: np.ndarray  # int64 (N,)
    logits: np.ndarray  # float32 (N,) for two classes, (N, K) for more
    threshold: float | None  # of the probability; None for more than two classes
    temperature: float = 1.0

    @property
    def decisions(self) -> np.ndarray:
        """Class numbers (N,)."""
        return decisions(probabilities(self.logits, self.temperature), self.threshold)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """An exported model and its Keras model on the same images, each at its own threshold."""

    images: int
    agreement: float  # share of images with equal decisions
    auc_keras: float | None  # None if a class has no image; K > 2: mean of one against the others
    auc: float | None
    accuracy_keras: float
    accuracy: float
    max_difference: float  # of the probabilities, both at temperature 1
    mean_difference: float


def compare(
    keras: Reference, logits: np.ndarray, threshold: float | None, temperature: float = 1.0
) -> Comparison:
    """Compares an exported model's logits with the Keras model's, in the same order.

    `threshold` is for the exported model's probability at `temperature`.
    """
    expected = keras.decisions
    decided = decisions(probabilities(logits, temperature), threshold)
    difference = np.abs(probabilities(keras.logits) - probabilities(logits))
    return Comparison(
        images=len(expected),
        agreement=float((expected == decided).mean()),
        auc_keras=_auc(keras.labels, keras.logits, keras.temperature),
        auc=_auc(keras.labels, logits, temperature),
        accuracy_keras=float((expected == keras.labels).mean()),
        accuracy=float((decided == keras.labels).mean()),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
    )


def _auc(labels: np.ndarray, logits: np.ndarray, temperature: float) -> float | None:
    if len(np.unique(labels)) < (2 if logits.ndim == 1 else logits.shape[1]):
        return None
    if logits.ndim == 1:
        return auc(labels, logits)
    # The temperature changes the order of the images if there are more than two classes.
    columns = probabilities(logits, temperature).T
    return float(np.mean([auc(labels == number, column) for number, column in enumerate(columns)]))


def matching_threshold(
    keras: Reference, logits: np.ndarray, temperature: float = 1.0
) -> float | None:
    """Returns the threshold that reproduces the Keras model's decisions, given the same images.

    This is the Keras model's threshold, adjusted to the temperature, if every decision then agrees.
    Quantized scores move in steps, so otherwise it is the threshold that separates the Keras
    model's decisions best. None for more than two classes.
    """
    if keras.threshold is None:
        return None
    adjusted = keras.threshold
    if 0 < adjusted < 1 and temperature != keras.temperature:
        adjusted = float(sigmoid(logit(adjusted) * keras.temperature / temperature))
    expected = keras.decisions
    exported = probabilities(logits, temperature)
    if (decisions(exported, adjusted) == expected).all() or len(set(expected)) == 1:
        return adjusted
    return best_threshold(expected, exported)


class Verdict(NamedTuple):
    """Temperature and threshold of an exported model, fitted on validation, and how it compares."""

    temperature: float
    threshold: float | None  # None for more than two classes
    comparisons: dict[str, Comparison]  # by split


def judge(keras: Mapping[str, Reference], logits: Mapping[str, np.ndarray]) -> Verdict:
    """Fits temperature and threshold of an exported model on validation; compares every split."""
    temperature = fit_temperature(keras["validation"].labels, logits["validation"])
    threshold = matching_threshold(keras["validation"], logits["validation"], temperature)
    comparisons = {
        split: compare(reference, logits[split], threshold, temperature)
        for split, reference in keras.items()
    }
    return Verdict(temperature, threshold, comparisons)


def explain_failure(
    comparison: Comparison, max_auc_drop: float, min_agreement: float
) -> str | None:
    """Returns why the exported model must not be published, or None."""
    auc, keras, agreement = comparison.auc, comparison.auc_keras, comparison.agreement
    if auc is not None and keras is not None and keras - auc > max_auc_drop:
        return f"its AUC is {auc:.4f}, {keras:.4f} in Keras; at most {max_auc_drop} may be lost"
    if agreement < min_agreement:
        return (
            f"it makes {agreement:.2%} of the Keras model's decisions; "
            f"expected at least {min_agreement:.2%}"
        )
    return None
