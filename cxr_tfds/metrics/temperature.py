"""Temperature scaling: one number that divides the logits of a model. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from cxr_tfds.metrics.logits import log_softmax

LOWEST, HIGHEST = 0.1, 10.0
_GOLDEN = (math.sqrt(5) - 1) / 2
_STEPS = 40  # log(100) * 0.618 ** 40 is below 1e-7


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """Returns the temperature from 0.1 to 10 that maximizes the likelihood of the labels.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2, with labels smoothed as in Platt
    1999, section 2.2: an image of a class of n images counts (n + 1) / (n + K) for its class and
    1 / (n + K) for each other. With hard labels, a split without errors would make the model
    infinitely confident.

    Args:
      labels: Class numbers (N,).
      logits: Of the finding (N,), or of each class (N, K).
    """
    values = logits.astype(np.float64)
    if values.ndim == 1:  # sigmoid(x) is the softmax of (0, x)
        values = np.stack([np.zeros_like(values), values], axis=1)
    classes = values.shape[1]
    counts = np.bincount(labels)[labels][:, np.newaxis]
    targets = (np.eye(classes)[labels] * counts + 1) / (counts + classes)

    def loss(log_temperature: float) -> float:
        predicted = log_softmax(values / math.exp(log_temperature))
        return float(-np.mean(np.sum(targets * predicted, axis=1)))

    # The loss is convex in 1 / temperature, so it has a single minimum in log(temperature) as well.
    return math.exp(_golden_section(loss, math.log(LOWEST), math.log(HIGHEST)))


def _golden_section(function: Callable[[float], float], low: float, high: float) -> float:
    """Returns where a function with a single minimum between `low` and `high` is smallest."""
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
