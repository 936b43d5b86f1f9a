"""Temperature scaling: one number that divides the logits of a model. NumPy only."""

from __future__ import annotations

import math

import numpy as np

from cxr_tfds.metrics.logits import softmax

LOWEST, HIGHEST = 0.1, 10.0
_STEPS = 40  # bisections: log(100) / 2 ** 40 is below 1e-11


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

    low, high = LOWEST, HIGHEST
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        # The loss is convex in 1 / temperature; this is its slope.
        if np.sum((softmax(values / middle) - targets) * values) > 0:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)
