"""Draws a heatmap over its radiograph. Needs only NumPy and Pillow."""

from __future__ import annotations

import numpy as np
from PIL import Image

_MAX_OPACITY = 0.6  # of the colour at the maximum of the heatmap
_UNSEEN_BRIGHTNESS = 0.35  # of what the fit "crop" cuts off
_BILINEAR = Image.Resampling.BILINEAR
# By level of the heatmap, from none to its maximum: 0 is transparent, then red, yellow, white.
_LEVELS = np.arange(256)[:, np.newaxis] / 255
_COLOURS = np.rint(np.clip(3 * _LEVELS - np.arange(3), 0, 1) * 255).astype(np.uint8)
_OPACITIES = np.rint(_MAX_OPACITY * 255 * _LEVELS[:, 0]).astype(np.uint8)


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
    short, long = min(grey.size), max(grey.size)
    if fit == "crop" and short < long:
        left, top = ((side - short) // 2 for side in grey.size)
        seen = grey.crop((left, top, left + short, top + short))
        picture = grey.point(lambda value: round(_UNSEEN_BRIGHTNESS * value)).convert("RGB")
        picture.paste(_colour(seen, heatmap), (left, top))
        return picture
    # The part of the square that the radiograph fills.
    width, height = (side / long if fit == "pad" else 1 for side in grey.size)
    return _colour(grey, heatmap, width, height)


def _colour(
    grey: Image.Image, heatmap: np.ndarray, width: float = 1, height: float = 1
) -> Image.Image:
    """Returns the image in the colours of the centre of a heatmap, `width` and `height` of it."""
    rows, columns = heatmap.shape
    left, top = columns * (1 - width) / 2, rows * (1 - height) / 2
    box = (left, top, columns - left, rows - top)
    large = Image.fromarray(heatmap.astype(np.float32)).resize(grey.size, _BILINEAR, box)
    most = max(float(heatmap.max()), 1e-6)
    levels = np.rint(np.clip(np.asarray(large), 0, most) * (255 / most)).astype(np.uint8)
    # Pillow mixes bytes; mixing floats would take four times the memory.
    colours, mask = Image.fromarray(_COLOURS[levels]), Image.fromarray(_OPACITIES[levels])
    return Image.composite(colours, grey.convert("RGB"), mask)


def colour_scale(width: int, height: int) -> Image.Image:
    """Returns the colours of an overlay on mid grey, from no evidence to the most."""
    ramp = np.linspace(0, 1, width, dtype=np.float32)[np.newaxis]
    return overlay(np.full((height, width), 128, np.uint8), ramp)
