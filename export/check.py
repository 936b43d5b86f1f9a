"""Whether an exported model still makes the decisions of the Keras model it came from."""

from __future__ import annotations

import dataclasses

import numpy as np

from cxr_tfds.cli import native_stderr_closed
from cxr_tfds.evaluation import Scores, probabilities
from cxr_tfds.metrics import auc, best_threshold

from .edge.runtime import load


@dataclasses.dataclass(frozen=True)
class Comparison:
    """An exported model beside its Keras model on the same images, each at its own threshold."""

    images: int
    agreement: float  # part of the images with equal decisions
    auc_keras: float | None  # None with more than two classes
    auc: float | None
    accuracy_keras: float
    accuracy: float
    max_difference: float  # of the probabilities
    mean_difference: float


# tflite-runtime cannot be loaded into a process that has loaded TensorFlow.
RUNTIME = "litert"


def exported_logits(flatbuffer: bytes, images: np.ndarray) -> np.ndarray:
    """Logits of uint8 images (N, S, S, C) in LiteRT: float32 (N,), or (N, K) for K > 2 classes."""
    with native_stderr_closed():
        session = load(flatbuffer, RUNTIME)
    whole = np.stack([session.run(image[np.newaxis]) for image in images])
    return whole[:, 0] if whole.shape[1] == 1 else whole


def decisions(values: np.ndarray, threshold: float | None) -> np.ndarray:
    """Class numbers (N,) from probabilities (N,) and a threshold, or (N, K) and none."""
    return values.argmax(axis=1) if threshold is None else (values >= threshold).astype(np.int64)


def matching_threshold(keras: Scores, logits: np.ndarray, threshold: float | None) -> float | None:
    """The threshold at which the exported model decides validation as the Keras model does.

    The Keras model's own where every decision agrees; otherwise, because quantized scores move in
    steps, the one that separates its decisions best.
    """
    if threshold is None:
        return None
    own = decisions(keras.probabilities, threshold)
    exported = probabilities(logits)
    if (decisions(exported, threshold) == own).all() or len(set(own)) == 1:
        return threshold
    return best_threshold(own, exported)


def compare(keras: Scores, logits: np.ndarray, threshold_keras: float | None, threshold: float | None) -> Comparison:
    """Both models on the same split, in the same order."""
    exported = probabilities(logits)
    own, other = decisions(keras.probabilities, threshold_keras), decisions(exported, threshold)
    difference = np.abs(keras.probabilities - exported)
    binary = threshold is not None
    return Comparison(
        images=len(own),
        agreement=float((own == other).mean()),
        auc_keras=auc(keras.labels, keras.logits) if binary else None,
        auc=auc(keras.labels, logits) if binary else None,
        accuracy_keras=float((own == keras.labels).mean()),
        accuracy=float((other == keras.labels).mean()),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
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
