"""Logits, probabilities and decisions. NumPy only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike  # takes longer than everything else here


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


def probabilities(
    logits: np.ndarray, temperature: ArrayLike = 1.0, *, several_findings: bool = False
) -> np.ndarray:
    """Returns probabilities shaped as `logits`.

    Args:
      logits: Of the finding (N,), or of each class or finding (N, K).
      temperature: One number, or one for each finding (K,).
      several_findings: Whether the columns are findings; an image may have several.
        Otherwise they are classes, whose probabilities add up to 1.
    """
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim == 1 or several_findings:
        return sigmoid(values / np.asarray(temperature))
    # Subtract first: large logits divided by a small temperature may both become infinite.
    return softmax((values - values.max(axis=-1, keepdims=True)) / temperature)


def decisions(probabilities: np.ndarray, threshold: ArrayLike | None) -> np.ndarray:
    """Returns class numbers int64 (N,); or for several findings 1 or 0 for each, int64 (N, K).

    Args:
      probabilities: Of the finding (N,), or of each class or finding (N, K).
      threshold: The finding is predicted from this probability on; one number, or one for each
        finding (K,). None selects the most probable class of (N, K).
    """
    if threshold is None:
        return probabilities.argmax(axis=1)
    return (probabilities >= np.asarray(threshold)).astype(np.int64)
