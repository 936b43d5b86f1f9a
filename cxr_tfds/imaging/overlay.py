"""Draws a heatmap over its radiograph. Needs only NumPy and Pillow."""

from __future__ import annotations

import numpy as np
from PIL import Image

OPACITY = 0.6  # of the colour at the maximum of the heatmap
_DARKNESS = (0, 0, 0, 166)  # over what the fit "crop" cuts off: 35 % of its brightness remain
_MAX_FLOAT_SIDE = 512  # pixels; a heatmap is enlarged further in bytes, which take less memory
_BILINEAR = Image.Resampling.BILINEAR
# Red, green, blue and opacity by level of the heatmap, from none to its maximum.
_LEVELS = np.arange(256)[:, np.newaxis] / 255
_COLOURS = np.clip(3 * _LEVELS - np.arange(3), 0, 1)  # black, red, yellow, white
_TABLE = np.rint(255 * np.hstack([_COLOURS, OPACITY * _LEVELS])).astype(np.uint8)


def overlay(pixels: np.ndarray, heatmap: np.ndarray, fit: str = "stretch") -> Image.Image:
    """Returns an RGB image (H, W): red, yellow, then white where evidence for the class is strong.

    Args:
      pixels: uint8 (H, W) or (H, W, C), 0 to 255, greyscale: the radiograph in any shape.
      heatmap: float32 (h, w). Colours are scaled to its maximum, so they do not compare images;
        values of 0 and below stay grey.
      fit: How the radiograph became the square of the heatmap, see
        `cxr_tfds.imaging.pixels.radiograph`. What "crop" cuts off is dark.
    """
    grey = Image.fromarray(pixels if pixels.ndim == 2 else pixels[..., 0])
    picture, colours = grey.convert("RGB"), colour_layer(grey.size, heatmap, fit)
    picture.paste(colours, (0, 0), colours)
    return picture


def colour_layer(size: tuple[int, int], heatmap: np.ndarray, fit: str = "stretch") -> Image.Image:
    """Returns the colours of `overlay` alone, for a radiograph of a width and height, in RGBA."""
    (width, height), long, short = size, max(size), min(size)
    if fit == "pad":
        return _colour(size, heatmap, width / long, height / long)
    if fit == "crop":
        layer = Image.new("RGBA", size, _DARKNESS)
        square = _colour((short, short), heatmap)
        layer.paste(square, ((width - short) // 2, (height - short) // 2))
        return layer
    return _colour(size, heatmap)


def _colour(
    size: tuple[int, int], heatmap: np.ndarray, width: float = 1, height: float = 1
) -> Image.Image:
    """Returns the colours of the centre of a heatmap, `width` and `height` of its sides."""
    rows, columns = heatmap.shape
    left, top = columns * (1 - width) / 2, rows * (1 - height) / 2
    box = (left, top, columns - left, rows - top)
    limited = [min(side, _MAX_FLOAT_SIDE) for side in size]
    smooth = Image.fromarray(heatmap.astype(np.float32)).resize(limited, _BILINEAR, box)
    most = max(float(heatmap.max()), 1e-6)
    levels = np.rint(np.clip(np.asarray(smooth), 0, most) * (255 / most)).astype(np.uint8)
    return Image.fromarray(_TABLE[np.asarray(Image.fromarray(levels).resize(size, _BILINEAR))])


def colour_scale(width: int, height: int) -> Image.Image:
    """Returns the colours of an overlay on mid grey, from no evidence to the most."""
    ramp = np.linspace(0, 1, width, dtype=np.float32)[np.newaxis]
    return overlay(np.full((height, width), 128, np.uint8), ramp)
