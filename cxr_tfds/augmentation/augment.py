"""Augmentation of batches on the accelerator, in `keras.ops`.

In the order of taking a radiograph: all geometric changes as one affine warp with one
interpolation, then sharpness, exposure, noise and compression. Every image has its own draws.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from cxr_tfds.augmentation.degrade import blur, compress
from cxr_tfds.augmentation.presets import AugmentSettings, augmentation

_DARKEST = 1e-6  # keeps the logarithm of black finite
_GROUPS = ("blur", "noise", "jpeg", None)  # what the images of each quarter of the slots get


@keras.saving.register_keras_serializable(package="cxr_tfds")
class Augment(keras.layers.Layer):
    """Changes each image of a batch at random; the identity unless training.

    Works like Keras's own random layers: calling it augments, `training=False` and `predict` do
    not.

    Images in: any dtype (N, H, W, C), values 0 to 255, MONOCHROME2. Out: the layer's compute dtype,
    values 0 to 255. Labels are unchanged; laterality changes if `flip` mirrors an image.

    At most one of blur, noise and compression is applied to an image, each with probability 1/4.
    Images are assigned to the four cases without replacement, so that a batch costs the same in
    every step. `mixup` also changes labels; apply it with `mix`.

    Args:
      settings: The strength of every change, or the name of a preset in `presets.PRESETS`.
      seed: Seed of the draws; random by default.
      **kwargs: Passed to `keras.layers.Layer`, for example `dtype`.

    Raises:
      InputError: The preset does not exist.
    """

    def __init__(
        self, settings: AugmentSettings | str = "default", *, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.settings = augmentation(settings, {}) if isinstance(settings, str) else settings
        self.seed = seed
        self.seeds = keras.random.SeedGenerator(seed)
        # Compiled apart: fused, XLA computes the warp again for every use of its result, 4 times
        # slower.
        fill = self.settings.fill
        self._warp = _compiled(lambda images, matrix: warp(images, matrix, fill))
        self._expose, self._blur = _compiled(expose), _compiled(blur)
        self._compress = _compiled(compress)

    def call(self, images: Any, training: bool = True) -> Any:
        """Returns the changed images."""
        if not training:
            return ops.cast(images, self.compute_dtype)
        settings, count = self.settings, ops.shape(images)[0]
        groups = _GROUPS if settings.blur or settings.noise or settings.jpeg else (None,)
        if len(groups) > 1:
            slots, sources = self._draw_slots(count)
            images = ops.take(images, sources, axis=0)
        shape = ops.shape(images)
        if settings.warps:
            images = self._warp(images, draw_matrix(settings, shape, self.seeds))
        # float32 until the end: bfloat16 would round to full grey values after every step.
        images = ops.cast(images, "float32")
        exposure = draw_exposure(settings, shape[0], self.seeds) if settings.exposes else ()
        size = shape[0] // len(groups)
        parts = []
        for i, group in enumerate(groups):
            members = slice(i * size, (i + 1) * size)
            parts.append(self._degrade(group, images[members], [v[members] for v in exposure]))
        images = parts[0]
        if len(groups) > 1:
            images = ops.take(ops.concatenate(parts), slots, axis=0)
        return ops.cast(images, self.compute_dtype)

    def _draw_slots(self, count: Any) -> tuple[Any, Any]:
        """Assigns N images at random to as many slots, or up to 3 more if 4 does not divide N.

        Returns the slot of each image, int32 (N,), and the image in each slot. An empty slot is
        filled with the last image.
        """
        order = ops.argsort(self._uniform(((count + 3) // 4 * 4,), 0, 1))
        return ops.argsort(order)[:count], ops.minimum(order, count - 1)

    def _degrade(self, group: str | None, images: Any, exposure: list[Any]) -> Any:
        """Applies everything after the warp to the images of one group."""
        settings, count = self.settings, ops.shape(images)[0]
        if settings.blur and group == "blur":
            images = self._blur(images, self._uniform((count,), 0, settings.blur))
        if exposure:
            images = self._expose(images, *exposure)
        if settings.noise and group == "noise":
            images = self._add_noise(images, self._uniform((count,), 0, settings.noise))
        if settings.jpeg and group == "jpeg":
            images = self._compress(images, self._uniform((count,), 100 - settings.jpeg, 100))
        return images

    def _uniform(self, shape: tuple, low: float, high: float) -> Any:
        return keras.random.uniform(shape, low, high, dtype="float32", seed=self.seeds)

    def _add_noise(self, images: Any, half_width: Any) -> Any:
        """Adds uniform noise: normal noise would cost more than the warp."""
        noise = self._uniform(ops.shape(images), -255, 255) * ops.reshape(half_width, (-1, 1, 1, 1))
        return ops.clip(images + noise, 0, 255)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns `input_shape`."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs to make the same layer."""
        settings = dataclasses.asdict(self.settings)
        return {**super().get_config(), "settings": settings, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Augment:
        """Makes the layer that `get_config` described."""
        return cls(**(config | {"settings": AugmentSettings(**config["settings"])}))


def _compiled(function: Callable) -> Callable:
    """Under TensorFlow compiles `function` alone with XLA, whatever the model around it does.

    Fused, the warp runs several times faster; the convolutions of a model run slower under XLA on a
    CPU. Other backends compile the complete step.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    # Without autograph, which would take seconds and find no control flow to convert.
    return tf.function(function, jit_compile=True, autograph=False)


def draw_matrix(settings: AugmentSettings, shape: tuple, seeds: keras.random.SeedGenerator) -> Any:
    """Draws the warps of N images of `shape` (N, H, W, C).

    From output to input coordinates the order is mirror, zoom, shear, shift, rotate, all about the
    centre, as in `ImageDataGenerator`.

    Returns:
      Matrices for `warp`, float32 (N, 6); offsets in pixels. Mirrored images change laterality.
    """
    count, height, width, _ = shape
    between = functools.partial(_between, (count,), seeds)
    angle = between(settings.rotation_deg) * (math.pi / 180)
    sheared = angle + between(settings.shear_deg) * (math.pi / 180)
    mirror = ops.where(
        keras.random.uniform((count,), dtype="float32", seed=seeds) < settings.flip, -1.0, 1.0
    )
    across, down = mirror * (1 + between(settings.zoom)), 1 + between(settings.zoom)
    x = between(settings.shift) * ops.cast(width, "float32")
    y = between(settings.shift) * ops.cast(height, "float32")
    cos, sin = ops.cos(angle), ops.sin(angle)
    rows = [
        *(cos * across, -ops.sin(sheared) * down, cos * x - sin * y),
        *(sin * across, ops.cos(sheared) * down, sin * x + cos * y),
    ]
    return ops.stack(rows, axis=-1)


def warp(images: Any, matrix: Any, fill: str = "nearest") -> Any:
    """Warps images affinely with bilinear interpolation; a mirroring `matrix` changes laterality.

    Args:
      images: Any real dtype and range (N, H, W, C). uint8 is read twice as fast as float32.
      matrix: float32 (N, 6), row-major 2 x 3, from output to input coordinates: pixels from the
        centre, x to the right and y down.
      fill: Outside the image, "nearest" repeats its edge, "constant" is 0 and "reflect" mirrors it
        including the edge, as in `scipy.ndimage.affine_transform`.

    Returns:
      float32 images of the same shape and range.
    """
    count, height, width, channels = ops.shape(images)
    # float32 for every dtype of images: bfloat16 cannot distinguish pixel 129 from 129.5.
    rows = ops.reshape(ops.arange(height, dtype="float32") - (height - 1) / 2, (1, height, 1))
    columns = ops.reshape(ops.arange(width, dtype="float32") - (width - 1) / 2, (1, 1, width))
    a, b, c, d, e, f = (ops.reshape(matrix[:, i], (-1, 1, 1)) for i in range(6))
    x, within_x = _inside(a * columns + b * rows + c + (width - 1) / 2, width, fill)
    y, within_y = _inside(d * columns + e * rows + f + (height - 1) / 2, height, fill)
    left, top = ops.floor(x), ops.floor(y)
    weight_x, weight_y = ops.expand_dims(x - left, -1), ops.expand_dims(y - top, -1)
    left, top = ops.cast(left, "int32"), ops.cast(top, "int32")
    right, bottom = ops.minimum(left + 1, width - 1), ops.minimum(top + 1, height - 1)
    flat = ops.reshape(images, (count, height * width, channels))

    def tap(row: Any, column: Any) -> Any:
        index = ops.reshape(row * width + column, (count, height * width, 1))
        values = ops.reshape(
            ops.take_along_axis(flat, index, axis=1), (count, height, width, channels)
        )
        return ops.cast(values, "float32")

    upper = tap(top, left) * (1 - weight_x) + tap(top, right) * weight_x
    lower = tap(bottom, left) * (1 - weight_x) + tap(bottom, right) * weight_x
    result = upper * (1 - weight_y) + lower * weight_y
    if fill == "constant":
        result = result * ops.expand_dims(
            ops.cast(ops.logical_and(within_x, within_y), "float32"), -1
        )
    return result


def _inside(places: Any, length: int, fill: str) -> tuple[Any, Any]:
    """Returns coordinates moved into 0 to length - 1, and which of them were inside before."""
    last = length - 1
    within = ops.logical_and(places >= 0, places <= last)
    if fill == "reflect":
        places = ops.mod(places + 0.5, 2 * length)
        places = ops.minimum(places, 2 * length - places) - 0.5
    return ops.clip(places, 0, last), within


def draw_exposure(
    settings: AugmentSettings, count: int, seeds: keras.random.SeedGenerator
) -> tuple[Any, Any, Any]:
    """Draws gain, offset (fraction of full scale) and power of N images, float32 (N, 1, 1, 1)."""
    between = functools.partial(_between, (count, 1, 1, 1), seeds)
    gain, offset = 1 + between(settings.contrast), between(settings.brightness)
    return gain, offset, ops.exp(between(settings.gamma))


def _between(shape: tuple, seeds: keras.random.SeedGenerator, half_width: float) -> Any:
    return keras.random.uniform(shape, -half_width, half_width, dtype="float32", seed=seeds)


def expose(images: Any, gain: Any, offset: Any, power: Any) -> Any:
    """Changes contrast around each image's mean, then brightness, then gamma.

    Labels and laterality are unchanged. Images keep their shape and dtype.

    Args:
      images: Any real dtype (N, H, W, C), values 0 to 255.
      gain: Contrast factor >= 0, float32 (N, 1, 1, 1) or a number; 1 keeps the contrast.
      offset: Brightness to add, a fraction of full scale; 0 keeps the brightness.
      power: Exponent > 0 of grey values from 0 to 1; 1 keeps them.
    """
    values = ops.cast(images, "float32")
    # Columns first: a sum over all axes is not vectorized on a CPU and takes three times as long.
    mean = ops.mean(ops.mean(values, axis=1, keepdims=True), axis=(2, 3), keepdims=True)
    values = ops.clip(values * (gain / 255) + (mean * (1 - gain) / 255 + offset), _DARKEST, 1)
    # exp(p log v) is vectorized by XLA on a CPU; its power function runs four times slower.
    return ops.cast(255 * ops.exp(power * ops.log(values)), images.dtype)


def mix(images: Any, share: Any) -> Any:
    """Mixes each float image (N, H, W, C) with the image at its place in the reversed batch.

    `share`, float (N,), is the weight of the image itself, 0 to 1. Mix the labels with the same
    shares, as `cxr_tfds.reading.pipeline.with_mixup` does. Laterality is unchanged.
    """
    share = ops.cast(ops.reshape(share, (-1, 1, 1, 1)), images.dtype)
    return share * images + (1 - share) * ops.flip(images, axis=0)
