"""Augmentation of whole batches on the accelerator, in `keras.ops`.

In the order of what happens to a radiograph: all geometric changes as one affine warp with one
interpolation, then sharpness, exposure, noise and compression. Values are drawn for each image.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from cxr_tfds.augmentation.degrade import blur, compress
from cxr_tfds.augmentation.presets import AugmentSettings

_DARKEST = 1e-6  # keeps the logarithm of black finite


@keras.saving.register_keras_serializable(package="cxr_tfds")
class Augment(keras.layers.Layer):
    """Changes each image of a batch at random, by its own draw; identity unless training.

    Images in: any dtype (N, H, W, C), values 0 to 255, MONOCHROME2. Out: the layer's compute dtype,
    values 0 to 255. Labels are unchanged; laterality changes where `flip` mirrors.

    Blur, noise and compression each go to a quarter of the batch, by position: batches are shuffled,
    and so they cost a quarter. `mixup` is applied by `mix`, because it changes labels, too.
    """

    def __init__(self, settings: AugmentSettings, *, seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings, self.seed = settings, seed
        self.seeds = keras.random.SeedGenerator(seed)
        # Compiled apart: in one piece XLA computes the warp again for every use of its result, 4 times slower.
        self._warp = _compiled(lambda images, matrix: warp(images, matrix, settings.fill))
        self._expose, self._blur, self._compress = (
            _compiled(expose),
            _compiled(blur),
            _compiled(compress),
        )

    def call(self, images: Any, training: bool = False) -> Any:
        if not training:
            return ops.cast(images, self.compute_dtype)
        settings, shape = self.settings, ops.shape(images)
        if any(
            (
                settings.rotation_deg,
                settings.shear_deg,
                settings.zoom,
                settings.shift,
                settings.flip,
            )
        ):
            images = self._warp(images, draw_matrix(settings, shape, self.seeds))
        # float32 until the end: each step would round a bfloat16 to whole grey values again.
        images = ops.cast(images, "float32")
        exposed = any((settings.brightness, settings.contrast, settings.gamma))
        if exposed or settings.blur or settings.noise or settings.jpeg:
            exposure = draw_exposure(settings, shape[0], self.seeds) if exposed else ()
            # Put together once, at the end: a copy of the batch takes a tenth of the warp's time.
            quarters = [(i * shape[0] // 4, (i + 1) * shape[0] // 4) for i in range(4)]
            images = ops.concatenate(
                [
                    self._degrade(
                        i, images[first:last], [values[first:last] for values in exposure]
                    )
                    for i, (first, last) in enumerate(quarters)
                ]
            )
        return ops.cast(images, self.compute_dtype)

    def _degrade(self, quarter: int, images: Any, exposure: list[Any]) -> Any:
        """All that comes after the warp, for the images of one quarter."""
        settings, count = self.settings, ops.shape(images)[0]
        if settings.blur and quarter == 0:
            images = self._blur(images, self._uniform((count,), 0, settings.blur))
        if exposure:
            images = self._expose(images, *exposure)
        if settings.noise and quarter == 1:
            images = self._add_noise(images, self._uniform((count,), 0, settings.noise))
        if settings.jpeg and quarter == 2:
            images = self._compress(images, self._uniform((count,), 100 - settings.jpeg, 100))
        return images

    def _uniform(self, shape: tuple, low: float, high: float) -> Any:
        return keras.random.uniform(shape, low, high, dtype="float32", seed=self.seeds)

    def _add_noise(self, images: Any, half_width: Any) -> Any:
        """Uniform, not normal: drawing normal numbers costs more than the warp."""
        noise = self._uniform(ops.shape(images), -255, 255) * ops.reshape(half_width, (-1, 1, 1, 1))
        return ops.clip(images + noise, 0, 255)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "settings": dataclasses.asdict(self.settings),
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Augment:
        return cls(**(config | {"settings": AugmentSettings(**config["settings"])}))


def _compiled(function: Callable) -> Callable:
    """Under TensorFlow compiles `function` alone with XLA, whatever the model around it does.

    Fused, the warp runs several times faster; the convolutions of a model run slower under XLA on a
    CPU. Other backends compile the whole step.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True)


def draw_matrix(settings: AugmentSettings, shape: tuple, seeds: keras.random.SeedGenerator) -> Any:
    """Draws the warps of N images of `shape` (N, H, W, C).

    The order is that of `ImageDataGenerator`: from output to input coordinates mirror, zoom, shear,
    shift, then rotate, all about the centre.

    Returns:
      float32 (N, 6), see `warp`; offsets in pixels. Of a mirrored image laterality is changed.
    """
    count, height, width, _ = shape

    def between(half_width: float) -> Any:
        return keras.random.uniform((count,), -half_width, half_width, dtype="float32", seed=seeds)

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
    """Affine warp with bilinear interpolation; moves pixels, so laterality changes where `matrix` mirrors.

    Args:
      images: any real dtype and range (N, H, W, C). Bytes are fetched in half the time of floats.
      matrix: float32 (N, 6), row-major 2 x 3, taking output to input coordinates, which are pixels
        from the centre, x to the right and y down.
      fill: outside the image "nearest" repeats its edge, "constant" is 0, "reflect" mirrors it with
        the edge twice, all as in `scipy.ndimage.affine_transform`.

    Returns:
      float32 images of the same shape and range.
    """
    count, height, width, channels = ops.shape(images)
    # float32 whatever the images are: bfloat16 cannot tell pixel 129 from 129.5.
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
    """Coordinates brought into 0 to length - 1, and which of them were there already."""
    last = length - 1
    within = ops.logical_and(places >= 0, places <= last)
    if fill == "reflect":
        places = ops.mod(places + 0.5, 2 * length)
        places = ops.minimum(places, 2 * length - places) - 0.5
    return ops.clip(places, 0, last), within


def draw_exposure(
    settings: AugmentSettings, count: int, seeds: keras.random.SeedGenerator
) -> tuple[Any, Any, Any]:
    """Draws gain, offset (parts of full scale) and power of N images, float32 (N, 1, 1, 1)."""

    def between(half_width: float) -> Any:
        return keras.random.uniform(
            (count, 1, 1, 1), -half_width, half_width, dtype="float32", seed=seeds
        )

    return (
        1 + between(settings.contrast),
        between(settings.brightness),
        ops.exp(between(settings.gamma)),
    )


def expose(images: Any, gain: Any, offset: Any, power: Any) -> Any:
    """Contrast around the image's mean, then brightness, then gamma.

    Args:
      images: any real dtype (N, H, W, C), values 0 to 255.
      gain: float32 (N, 1, 1, 1) or a number, > 0; 1 keeps the contrast.
      offset: the same, in parts of full scale; 0 keeps the brightness.
      power: the same, > 0; 1 keeps the grey curve.

    Returns:
      Images of the same shape and dtype, clipped to 0 to 255.
    """
    values = ops.cast(images, "float32")
    # Columns first: a sum over all at once is not vectorised on a CPU and takes three times as long.
    mean = ops.mean(ops.mean(values, axis=1, keepdims=True), axis=(2, 3), keepdims=True)
    values = ops.clip(values * (gain / 255) + (mean * (1 - gain) / 255 + offset), _DARKEST, 1)
    # As exp(p log v), which XLA vectorises on a CPU; its power runs four times slower.
    return ops.cast(255 * ops.exp(power * ops.log(values)), images.dtype)


def mix(images: Any, share: Any) -> Any:
    """Mixes each image with its opposite in the reversed batch; so labels change, laterality does not.

    Args:
      images: float (N, H, W, C), of any range, which stays.
      share: float (N,), of the image itself; the label takes the same share of its own.
    """
    share = ops.cast(ops.reshape(share, (-1, 1, 1, 1)), images.dtype)
    return share * images + (1 - share) * ops.flip(images, axis=0)
