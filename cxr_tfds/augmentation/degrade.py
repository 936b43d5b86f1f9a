"""Differences between hospitals: sharpness and compression, in `keras.ops`.

Images in and out: float (N, H, W, C), values 0 to 255, any photometric interpretation. Shape and
dtype are kept. Labels and laterality are unchanged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from cxr_tfds.imaging.jpeg import STANDARD_TABLE

_BLUR_RADIUS = 4  # taps to each side: 2 standard deviations of the strongest blur
_LUMINANCE = np.array(STANDARD_TABLE, np.float32).reshape(8, 8)  # rows are vertical frequencies
# Orthonormal DCT-II; row k is the k-th cosine.
_K, _N = np.mgrid[:8, :8]
_DCT = np.sqrt(np.where(_K == 0, 1, 2) / 8) * np.cos(np.pi * (2 * _N + 1) * _K / 16)
_DCT = _DCT.astype(np.float32)


def blur(images: Any, sigma: Any) -> Any:
    """Applies a Gaussian blur to each image; the edge is repeated outside.

    `sigma` holds standard deviations, float32 (N,), 0 to 2 pixels; 0 leaves an image unchanged.
    """
    taps = np.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1, dtype=np.float32)
    # Avoids a division by 0; at 0.05 pixels the next tap weighs e^-200.
    spread = ops.maximum(ops.reshape(ops.cast(sigma, "float32"), (-1, 1)), 0.05)
    weights = ops.exp(-0.5 * ops.square(taps / spread))
    weights = weights / ops.sum(weights, axis=1, keepdims=True)
    # In float32: the sum of 9 products would lose the last bits of a float16.
    values = ops.cast(images, "float32")
    return ops.cast(_filter(_filter(values, weights, axis=1), weights, axis=2), images.dtype)


def _filter(images: Any, weights: Any, axis: int) -> Any:
    """Returns the sum of copies shifted along `axis`, weighted per image: weights (N, taps)."""
    filled = _repeat_edge(images, axis, _BLUR_RADIUS, _BLUR_RADIUS)
    total = 0
    for tap in range(2 * _BLUR_RADIUS + 1):
        shifted = filled[_along(axis, tap, tap + images.shape[axis])]
        total += ops.reshape(weights[:, tap], (-1, 1, 1, 1)) * shifted
    return total


def _along(axis: int, start: int, stop: int | None) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(start, stop),)


def _repeat_edge(images: Any, axis: int, before: int, after: int) -> Any:
    """Pads rows (`axis` 1) or columns (2) by concatenation; a gather takes 3 times as long."""
    first, last = images[_along(axis, 0, 1)], images[_along(axis, -1, None)]
    return ops.concatenate([*[first] * before, images, *[last] * after], axis=axis)


def compress(images: Any, quality: Any) -> Any:
    """Applies the loss of a greyscale JPEG: the quantization of 8 x 8 DCT coefficients.

    Each channel is compressed as one grey image. A side that is not a multiple of 8 is padded by
    repeating its edge, as encoders do. `quality`, float32 (N,), is 1 to 100 on the scale of
    libjpeg; 100 rounds the coefficients to 1.
    """
    count, height, width, channels = ops.shape(images)
    tall, wide = -(-height // 8), -(-width // 8)
    values = ops.cast(images, "float32") - 128
    values = _repeat_edge(_repeat_edge(values, 1, 0, 8 * tall - height), 2, 0, 8 * wide - width)
    blocks = ops.reshape(values, (count, tall, 8, wide, 8, channels))
    frequencies = ops.einsum("ku,nauzvc,lv->nakzlc", _DCT, blocks, _DCT)
    # Repeated for each channel: TensorFlow broadcasts over five axes, the division would need six.
    steps = ops.repeat(_steps(quality), channels, axis=-1)
    frequencies = ops.round(frequencies / steps) * steps
    blocks = ops.einsum("ku,nakzlc,lv->nauzvc", _DCT, frequencies, _DCT)
    values = ops.reshape(blocks, (count, 8 * tall, 8 * wide, channels))[:, :height, :width]
    return ops.cast(ops.clip(values + 128, 0, 255), images.dtype)


def _steps(quality: Any) -> Any:
    """Returns quantization steps (N, 1, 8, 1, 8, 1) on the quality scale of libjpeg."""
    quality = ops.clip(ops.cast(quality, "float32"), 1, 100)
    scale = ops.where(quality < 50, 50 / quality, 2 - quality / 50)
    steps = ops.reshape(scale, (-1, 1, 1)) * _LUMINANCE
    return ops.reshape(ops.clip(ops.round(steps), 1, 255), (-1, 1, 8, 1, 8, 1))
