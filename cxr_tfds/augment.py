"""Augmentation of whole batches on the accelerator, in `keras.ops`.

All geometric changes of an image are one affine warp with one interpolation; all changes of
exposure follow in one pass. Both are drawn per image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from cxr_tfds.presets import AugmentSettings

_LOG_FLOOR = 1e-6  # keeps black finite: 255e-6 of a grey value


class Augment(keras.layers.Layer):
    """Changes each image of a batch at random, by its own draw; identity unless training.

    Images in: any dtype (N, H, W, C), values 0 to 255, MONOCHROME2. Out: the layer's compute dtype,
    values clipped to 0 to 255. Labels are unchanged; laterality changes where `flip` mirrors.
    Pixels from outside the image repeat its edge.
    """

    def __init__(self, settings: AugmentSettings, *, seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self.seeds = keras.random.SeedGenerator(seed)
        # Compiled apart: in one piece XLA computes the warp again for every use of its result, 4 times slower.
        self._warp, self._expose = _compiled(warp), _compiled(expose)

    def call(self, images: Any, training: bool = False) -> Any:
        images = ops.cast(images, self.compute_dtype)
        if not training or self.settings == AugmentSettings():
            return images
        changes = draw_changes(self.settings, ops.shape(images), self.seeds)
        return self._expose(self._warp(images, changes["matrix"]), changes)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


def _compiled(function: Callable) -> Callable:
    """Under TensorFlow compiles `function` alone with XLA, whatever the model around it does.

    Fused, the warp runs several times faster; the convolutions of a model run slower under XLA on a
    CPU. Other backends compile the whole step.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True)


def draw_changes(settings: AugmentSettings, shape: tuple, seeds: keras.random.SeedGenerator) -> dict[str, Any]:
    """Draws the changes of N images of `shape` (N, H, W, C).

    Returns:
      float32: `matrix` (N, 6), row-major 2 x 3, taking output to input coordinates, pixels from the
      centre, x to the right and y down; `gain`, `offset`, `power` (N, 1, 1, 1); `noise`
      (N, H, W, C), in parts of full scale, or None where the settings have no noise.
    """
    count, height, width, _ = shape

    def between(half_width: float) -> Any:
        return keras.random.uniform((count,), -half_width, half_width, dtype="float32", seed=seeds)

    def each(values: Any) -> Any:
        return ops.reshape(values, (-1, 1, 1, 1))

    angle = between(settings.rotation_deg) * (math.pi / 180)
    shear = ops.tan(between(settings.shear_deg) * (math.pi / 180))
    scale = 1 / (1 + between(settings.zoom))
    mirror = ops.where(keras.random.uniform((count,), dtype="float32", seed=seeds) < settings.flip, -1.0, 1.0)
    shift_x = between(settings.shift) * ops.cast(width, "float32")
    shift_y = between(settings.shift) * ops.cast(height, "float32")
    cos, sin = ops.cos(angle) * scale, ops.sin(angle) * scale
    matrix = [mirror * cos, mirror * (cos * shear - sin), shift_x, sin, sin * shear + cos, shift_y]
    changes = {
        "matrix": ops.stack(matrix, axis=-1),
        "gain": each(1 + between(settings.contrast)),
        "offset": each(between(settings.brightness)),
        "power": each(ops.exp(between(settings.gamma))),
        "noise": None,
    }
    if settings.noise:
        strength = keras.random.uniform((count, 1, 1, 1), 0, settings.noise, dtype="float32", seed=seeds)
        # Uniform, not normal: drawing normal numbers costs more than the warp.
        changes["noise"] = strength * keras.random.uniform(shape, -1, 1, dtype="float32", seed=seeds)
    return changes


def warp(images: Any, matrix: Any) -> Any:
    """Affine warp with bilinear interpolation; outside the image its edge is repeated.

    Args:
      images: float (N, H, W, C).
      matrix: float32 (N, 6), see `draw_changes`.

    Returns:
      Images of the same shape and dtype.
    """
    count, height, width, channels = ops.shape(images)
    # float32 whatever the images are: bfloat16 cannot tell pixel 129 from 129.5.
    rows = ops.reshape(ops.arange(height, dtype="float32") - (height - 1) / 2, (1, height, 1))
    columns = ops.reshape(ops.arange(width, dtype="float32") - (width - 1) / 2, (1, 1, width))
    a, b, c, d, e, f = (ops.reshape(matrix[:, i], (-1, 1, 1)) for i in range(6))
    x = ops.clip(a * columns + b * rows + c + (width - 1) / 2, 0, width - 1)
    y = ops.clip(d * columns + e * rows + f + (height - 1) / 2, 0, height - 1)
    left, top = ops.floor(x), ops.floor(y)
    weight_x = ops.expand_dims(ops.cast(x - left, images.dtype), -1)
    weight_y = ops.expand_dims(ops.cast(y - top, images.dtype), -1)
    left, top = ops.cast(left, "int32"), ops.cast(top, "int32")
    right, bottom = ops.minimum(left + 1, width - 1), ops.minimum(top + 1, height - 1)
    flat = ops.reshape(images, (count, height * width, channels))

    def tap(row: Any, column: Any) -> Any:
        index = ops.reshape(row * width + column, (count, height * width, 1))
        return ops.reshape(ops.take_along_axis(flat, index, axis=1), (count, height, width, channels))

    upper = tap(top, left) * (1 - weight_x) + tap(top, right) * weight_x
    lower = tap(bottom, left) * (1 - weight_x) + tap(bottom, right) * weight_x
    return upper * (1 - weight_y) + lower * weight_y


def expose(images: Any, changes: dict[str, Any]) -> Any:
    """Contrast around the image's mean, brightness, gamma and noise, clipped to 0 to 255."""
    values = ops.cast(images, "float32") / 255
    mean = ops.mean(values, axis=(1, 2, 3), keepdims=True)
    values = ops.clip((values - mean) * changes["gain"] + mean + changes["offset"], 0, 1)
    # As exp(p log v), which XLA vectorises on a CPU; its power runs four times slower.
    values = ops.exp(changes["power"] * ops.log(values + _LOG_FLOOR))
    if changes["noise"] is not None:
        values = values + changes["noise"]
    return ops.cast(ops.clip(values, 0, 1) * 255, images.dtype)
