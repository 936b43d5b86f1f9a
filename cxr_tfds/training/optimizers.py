"""Optimizers, the course of the learning rate, and when to stop: all from the number of the step and the history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from cxr_tfds.training.settings import TrainSettings

_WARM_UP = 0.05  # of all steps, before a cosine
# As the reference systems set Keras's ReduceLROnPlateau; the smallest gain that counts is its default.
_PATIENCE, _FACTOR, _LOWEST, _GAIN = 2, 0.3, 1e-6, 1e-4


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """A linear rise from zero, then the peak, or a cosine from it to zero.

    `plateau` multiplies the peak; it is assigned before an epoch.
    """

    def __init__(self, peak: float, *, steps: int, warm_up: int, cosine: bool) -> None:
        super().__init__()
        self.peak, self.steps, self.warm_up, self.cosine = peak, steps, warm_up, cosine
        self.plateau = tf.Variable(1.0, trainable=False)

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        risen = ops.minimum(step / max(1, self.warm_up), 1.0) if self.warm_up else 1.0
        if not self.cosine:
            return risen * self.peak * self.plateau
        passed = ops.clip((step - self.warm_up) / max(1, self.steps - self.warm_up), 0.0, 1.0)
        return risen * self.peak * 0.5 * (1 + ops.cos(math.pi * passed))

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "steps": self.steps,
            "warm_up": self.warm_up,
            "cosine": self.cosine,
        }


def make_rate(settings: TrainSettings, peak: float, steps: int) -> Rate:
    """The course over `steps` steps from `peak`."""
    cosine = settings.schedule == "cosine"
    part = settings.warm_up if settings.warm_up is not None else _WARM_UP if cosine else 0.0
    warm_up = max(1, round(part * steps)) if part else 0
    return Rate(peak, steps=steps, warm_up=warm_up, cosine=cosine)


def make_optimizer(
    settings: TrainSettings, rate: Rate, *, scaled: bool, replicas: int = 1
) -> keras.optimizers.Optimizer:
    """The optimizer of a step on `replicas` devices, each of which gives it its part of the gradients' sum.

    `scaled` keeps small float16 gradients from becoming zero.
    """
    clip = {"global_clipnorm": settings.clip_norm / replicas} if settings.clip_norm else {}
    if settings.optimizer == "adam":
        optimizer = keras.optimizers.Adam(rate, **clip)
    else:
        optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay, **clip)
    return keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer


def plateau_factor(losses: Sequence[float], peak: float) -> float:
    """What the peak is multiplied by after epochs of these validation losses."""
    best, waited, factor = math.inf, 0, 1.0
    for loss in losses:
        if loss < best - _GAIN:
            best, waited = loss, 0
            continue
        waited += 1
        if waited >= _PATIENCE:
            factor, waited = factor * _FACTOR, 0
    return max(factor, min(1.0, _LOWEST / peak))


def is_over(losses: Sequence[float], early_stopping: int) -> bool:
    """Whether the last `early_stopping` epochs brought no lower validation loss; never if it is 0."""
    if not early_stopping or not losses:
        return False
    return len(losses) - 1 - min(range(len(losses)), key=losses.__getitem__) >= early_stopping
