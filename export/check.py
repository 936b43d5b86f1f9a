"""Whether an exported model still makes the decisions of the Keras model it came from."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from cxr_tfds.evaluation.scoring import Scores, squeeze_logits
from cxr_tfds.metrics.logits import decisions, probabilities
from cxr_tfds.metrics.ranking import auc
from cxr_tfds.metrics.temperature import fit_temperature
from cxr_tfds.metrics.thresholds import best_threshold
from cxr_tfds.native import suppress_native_stderr

from .edge.runtime import load


@dataclasses.dataclass(frozen=True)
class Comparison:
    """An exported model beside its Keras model on the same images, each at its own threshold."""

    images: int
    agreement: float  # part of the images with equal decisions
    auc_keras: float | None  # None where a class has no image
    auc: float | None
    accuracy_keras: float
    accuracy: float
    max_difference: float  # of the probabilities, both at temperature 1
    mean_difference: float


# tflite-runtime cannot be loaded into a process that has loaded TensorFlow.
RUNTIME = "litert"


def exported_answers(flatbuffer: bytes, images: np.ndarray) -> np.ndarray:
    """What a flatbuffer gives for uint8 images (N, S, S, C) in LiteRT.

    Logits float32 (N,), or (N, K) for K > 2 classes; or the probabilities (N, K) of `rgb.with_probabilities`.
    """
    with suppress_native_stderr():
        session = load(flatbuffer, RUNTIME)
    return squeeze_logits(np.stack([session.run(image[np.newaxis]) for image in images]))


def as_logits(given: np.ndarray, temperature: float) -> np.ndarray:
    """Logits float32 (N,), or (N, K), whose calibrated probabilities float32 (N, K) these are.

    Probabilities too small for float32 count as its smallest number. Of more than two classes the logits are
    known up to a number that is the same for all classes of an image.
    """
    logarithms = temperature * np.log(np.maximum(given, np.finfo(np.float32).tiny))
    return logarithms[:, 1] - logarithms[:, 0] if logarithms.shape[1] == 2 else logarithms


def matching_threshold(
    keras: Scores, logits: np.ndarray, threshold: float | None, temperature: float = 1.0
) -> float | None:
    """The threshold at which the exported model decides validation as the Keras model does.

    Args:
      keras: of the Keras model, with its temperature.
      logits: of the exported model, same images in the same order.
      threshold: the Keras model's own, on its calibrated probabilities; None for more than two classes.
      temperature: of the exported model, whose probability is sigmoid(logit / temperature).

    Returns:
      The Keras model's own, moved to where the temperature moves its probabilities, if every decision
      then agrees; otherwise, because quantized scores move in steps, the one that separates the Keras
      model's decisions best.
    """
    if threshold is None:
        return None
    own = keras.decisions(threshold)
    exported = probabilities(logits, temperature)
    moved = _moved(threshold, temperature / keras.temperature)
    if (decisions(exported, moved) == own).all() or len(set(own)) == 1:
        return moved
    return best_threshold(own, exported)


def _moved(probability: float, temperature: float) -> float:
    """What becomes of a probability when its logit is divided by `temperature`."""
    if temperature == 1 or probability in (0, 1):
        return probability
    logit = math.log(probability) - math.log1p(-probability)
    return float(probabilities(np.array([logit / temperature]))[0])


def compare(
    keras: Scores,
    logits: np.ndarray,
    threshold_keras: float | None,
    threshold: float | None,
    temperature: float = 1.0,
) -> Comparison:
    """Both models on the same split, in the same order; `threshold` holds at `temperature`."""
    own = keras.decisions(threshold_keras)
    other = decisions(probabilities(logits, temperature), threshold)
    difference = np.abs(probabilities(keras.logits) - probabilities(logits))
    return Comparison(
        images=len(own),
        agreement=float((own == other).mean()),
        auc_keras=_auc(keras.labels, keras.logits, keras.temperature),
        auc=_auc(keras.labels, logits, temperature),
        accuracy_keras=float((own == keras.labels).mean()),
        accuracy=float((other == keras.labels).mean()),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
    )


def _auc(labels: np.ndarray, logits: np.ndarray, temperature: float) -> float | None:
    """That of logits (N,); of (N, K) the mean of each class against the rest, as `metrics.json` has it."""
    if len(np.unique(labels)) < (2 if logits.ndim == 1 else logits.shape[1]):
        return None
    if logits.ndim == 1:
        return auc(labels, logits)
    columns = probabilities(
        logits, temperature
    ).T  # of more than two classes its value changes the order of images
    return float(np.mean([auc(labels == number, column) for number, column in enumerate(columns)]))


class Verdict(NamedTuple):
    """What validation says of an exported model."""

    temperature: float
    threshold: float | None  # of the probability at that temperature
    comparisons: dict[str, Comparison]  # by split


def judge(
    keras: dict[str, Scores], logits: dict[str, np.ndarray], threshold: float | None
) -> Verdict:
    """Fits temperature and threshold of an exported model on validation, and compares every split.

    Args:
      keras: by split, of the Keras model.
      logits: by split, of the exported model.
      threshold: the Keras model's own; None for more than two classes.
    """
    temperature = fit_temperature(keras["validation"].labels, logits["validation"])
    own = matching_threshold(keras["validation"], logits["validation"], threshold, temperature)
    return compared(Verdict(temperature, own, {}), keras, logits, threshold)


def compared(
    verdict: Verdict,
    keras: dict[str, Scores],
    logits: dict[str, np.ndarray],
    threshold: float | None,
) -> Verdict:
    """The verdict with comparisons of these logits; arguments as of `judge`."""
    return verdict._replace(
        comparisons={
            split: compare(
                keras[split], logits[split], threshold, verdict.threshold, verdict.temperature
            )
            for split in keras
        }
    )


def failure(comparison: Comparison, max_auc_drop: float, min_agreement: float) -> str | None:
    """Why the exported model must not be published, or None."""
    if comparison.auc is not None and comparison.auc_keras is not None:
        drop = comparison.auc_keras - comparison.auc
        if drop > max_auc_drop:
            return f"its AUC is {comparison.auc:.4f} against {comparison.auc_keras:.4f}; {max_auc_drop} may be lost"
    if comparison.agreement < min_agreement:
        return f"it agrees on {comparison.agreement:.2%} of the decisions; {min_agreement:.2%} are needed"
    return None
