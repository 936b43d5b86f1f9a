"""Optimizers, learning-rate schedules and early stopping.

All of them depend only on the step number and the history, so that a resumed run repeats them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from cxr_tfds.training.settings import TrainSettings

_COSINE_WARM_UP = 0.05  # fraction of all steps
# Keras's ReduceLROnPlateau as the reference systems set it; _MIN_DELTA is its default.
_PATIENCE, _FACTOR, _LOWEST_RATE, _MIN_DELTA = 2, 0.3, 1e-6, 1e-4


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up from zero to the peak, followed by a constant rate or a cosine to zero."""

    def __init__(self, settings: TrainSettings, peak: float, steps: int) -> None:
        super().__init__()
        self.peak, self.steps = peak, steps
        self.cosine = settings.schedule == "cosine"
        fraction = settings.warm_up
        if fraction is None:
            fraction = _COSINE_WARM_UP if self.cosine else 0.0
        self.warm_up = max(1, round(fraction * steps)) if fraction else 0
        self.plateau = tf.Variable(1.0, trainable=False)  # set before each epoch

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of a step, counted from 0."""
        step = ops.cast(step, "float32")
        rise = ops.minimum(step / self.warm_up, 1.0) if self.warm_up else 1.0
        if not self.cosine:
            return rise * self.peak * self.plateau
        progress = ops.clip((step - self.warm_up) / max(1, self.steps - self.warm_up), 0.0, 1.0)
        return rise * self.peak * 0.5 * (1 + ops.cos(math.pi * progress))


def make_optimizer(
    settings: TrainSettings, rate: Rate, *, scaled: bool, replicas: int = 1
) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a step in which each replica passes its part of the gradients' sum.

    `scaled` is True if the loss is scaled, so that small float16 gradients do not become zero.
    """
    clip = {"global_clipnorm": settings.clip_norm / replicas} if settings.clip_norm else {}
    if settings.optimizer == "adam":
        optimizer = keras.optimizers.Adam(rate, **clip)
    else:
        optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay, **clip)
    return keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer


def plateau_factor(losses: Sequence[float], peak: float) -> float:
    """Returns what the `plateau` schedule multiplies `peak` by after these validation losses."""
    best, waited, factor = math.inf, 0, 1.0
    for loss in losses:
        if loss < best - _MIN_DELTA:
            best, waited = loss, 0
            continue
        waited += 1
        if waited >= _PATIENCE:
            factor, waited = factor * _FACTOR, 0
    return max(factor, min(1.0, _LOWEST_RATE / peak))


def should_stop(losses: Sequence[float], early_stopping: int) -> bool:
    """Returns whether the last `early_stopping` validation losses did not improve (0: False)."""
    if not early_stopping or not losses:
        return False
    return len(losses) - 1 - min(range(len(losses)), key=losses.__getitem__) >= early_stopping
