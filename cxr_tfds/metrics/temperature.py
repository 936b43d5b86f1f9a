"""How sure a model may be: one number that divides its logits. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

LOWEST, HIGHEST = 0.1, 10.0
_GOLDEN = (math.sqrt(5) - 1) / 2
_STEPS = 40  # of the golden section: log(100) * 0.618 ** 40 is below 1e-7


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """The temperature between 0.1 and 10 at which softmax or sigmoid of logits / temperature is likeliest.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2. The log-likelihood is that of Platt's
    smoothed labels (1999, section 2.2), (n + 1) / (n + K) for the class of n images and 1 / (n + K) for
    each other: with hard labels a split that the model decides without an error would make it infinitely sure.

    Args:
      labels: class numbers (N,).
      logits: of the finding (N,), or of each class (N, K).
    """
    whole = _two_columns(logits.astype(np.float64))
    targets = _smoothed(labels, whole.shape[1])

    def loss(log_temperature: float) -> float:
        return float(
            -np.mean(np.sum(targets * _log_softmax(whole / math.exp(log_temperature)), axis=1))
        )

    # Convex in 1 / temperature, so it has one minimum in the logarithm as well.
    return math.exp(_golden_section(loss, math.log(LOWEST), math.log(HIGHEST)))


def _two_columns(logits: np.ndarray) -> np.ndarray:
    """(N, K) from (N, K) or from the logit of the finding (N,): sigmoid(x) is the softmax of (0, x)."""
    return np.stack([np.zeros_like(logits), logits], axis=1) if logits.ndim == 1 else logits


def _smoothed(labels: np.ndarray, classes: int) -> np.ndarray:
    counts = np.bincount(labels, minlength=classes)[labels][:, np.newaxis]
    return (np.eye(classes)[labels] * counts + 1) / (counts + classes)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    less = logits - logits.max(axis=1, keepdims=True)
    return less - np.log(np.exp(less).sum(axis=1, keepdims=True))


def _golden_section(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one minimum between `low` and `high` is smallest."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(_STEPS):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2
