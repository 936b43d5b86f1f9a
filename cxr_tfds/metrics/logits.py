"""Logits, probabilities and decisions. NumPy only."""

from __future__ import annotations

import numpy as np


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Returns 1 / (1 + exp(-x)) in float64 without overflow, same shape."""
    values = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1, small) / (1 + small)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax over the last axis in float64, same shape."""
    values = np.asarray(logits, dtype=np.float64)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def logit(probabilities: np.ndarray | float, epsilon: float = 0.0) -> np.ndarray:
    """Returns log(p / (1 - p)) in float64, the inverse of `sigmoid`, same shape.

    Probabilities are first clipped to `epsilon` and 1 - `epsilon`, so that logits are finite.
    """
    values = np.clip(np.asarray(probabilities, dtype=np.float64), epsilon, 1 - epsilon)
    return np.log(values) - np.log1p(-values)


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Returns probabilities of the finding (N,) or of each class (N, K), shaped as `logits`."""
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim == 1:
        return sigmoid(values / temperature)
    # Subtract first: large logits divided by a small temperature may both become infinite.
    return softmax((values - values.max(axis=-1, keepdims=True)) / temperature)


def decisions(probabilities: np.ndarray, threshold: float | None) -> np.ndarray:
    """Returns class numbers int64 (N,).

    Args:
      probabilities: Of the finding (N,), or of each class (N, K).
      threshold: The finding is predicted from this probability on. None selects the most probable
        class of (N, K).
    """
    if threshold is None:
        return probabilities.argmax(axis=1)
    return (probabilities >= threshold).astype(np.int64)
