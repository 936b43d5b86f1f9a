"""Draws a heatmap over its radiograph. Needs only NumPy and Pillow."""

from __future__ import annotations

import numpy as np
from PIL import Image

_MAX_OPACITY = 0.6  # of the colour at the maximum of the heatmap


def overlay(pixels: np.ndarray, heatmap: np.ndarray) -> Image.Image:
    """Returns an RGB image (S, S): red, yellow, then white where evidence for the class is strong.

    Args:
      pixels: uint8 (S, S, C), 0 to 255, greyscale.
      heatmap: float32 (h, w). Colours are scaled to its maximum, so they do not compare images;
        values of 0 and below stay grey.
    """
    size = pixels.shape[0], pixels.shape[0]
    large = Image.fromarray(heatmap.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    heat = np.clip(np.asarray(large) / max(float(heatmap.max()), 1e-6), 0, 1)[..., np.newaxis]
    colours = np.clip(3 * heat - np.arange(3), 0, 1) * 255  # black, red, yellow, white
    opacity = _MAX_OPACITY * heat
    mixed = pixels[..., :1] * (1 - opacity) + colours * opacity
    return Image.fromarray(np.rint(mixed).astype(np.uint8))
