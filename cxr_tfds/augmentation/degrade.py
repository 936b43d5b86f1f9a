"""Differences between hospitals: sharpness and compression, in `keras.ops`.

Images in and out: float (N, H, W, C), values 0 to 255, any photometric interpretation. Labels and
laterality are unchanged.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from cxr_tfds.imaging.jpeg import STANDARD_TABLE

_BLUR_RADIUS = 4  # taps to each side: 2 standard deviations of the strongest blur
_LUMINANCE = np.array(STANDARD_TABLE, np.float32).reshape(8, 8)  # rows are vertical frequencies
# Orthonormal DCT-II; row k is the k-th cosine.
_DCT = np.array(
    [
        [
            math.sqrt((1 if k == 0 else 2) / 8) * math.cos(math.pi * (2 * n + 1) * k / 16)
            for n in range(8)
        ]
        for k in range(8)
    ],
    np.float32,
)


def blur(images: Any, sigma: Any) -> Any:
    """Applies a Gaussian blur to each image; the edge is repeated outside.

    Args:
      images: float (N, H, W, C), values 0 to 255.
      sigma: Standard deviations, float32 (N,), 0 to 2 pixels; 0 leaves an image unchanged.

    Returns:
      Images of the same shape, dtype and range.
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
    length = images.shape[axis]
    taps = 2 * _BLUR_RADIUS + 1
    filled = _repeat_edge(images, axis, _BLUR_RADIUS, _BLUR_RADIUS)
    shifted = [
        filled[:, tap : tap + length] if axis == 1 else filled[:, :, tap : tap + length]
        for tap in range(taps)
    ]
    return sum(
        ops.reshape(weights[:, tap], (-1, 1, 1, 1)) * part for tap, part in enumerate(shifted)
    )


def _repeat_edge(images: Any, axis: int, before: int, after: int) -> Any:
    """Pads rows (`axis` 1) or columns (2) by concatenation; a gather takes 3 times as long."""
    if not before and not after:
        return images
    first, last = (
        (images[:, :1], images[:, -1:]) if axis == 1 else (images[:, :, :1], images[:, :, -1:])
    )
    return ops.concatenate([*[first] * before, images, *[last] * after], axis=axis)


def compress(images: Any, quality: Any) -> Any:
    """Applies the loss of a greyscale JPEG: the quantization of 8 x 8 DCT coefficients.

    A side that is not a multiple of 8 is padded by repeating its edge, as encoders do.

    Args:
      images: float (N, H, W, C), values 0 to 255; each channel is compressed as one grey image.
      quality: float32 (N,), 1 to 100 on the scale of libjpeg; 100 rounds the coefficients to 1.

    Returns:
      Images of the same shape and dtype, clipped to 0 to 255.
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
