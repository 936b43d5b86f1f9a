"""A heatmap laid over its radiograph. NumPy and Pillow only."""

from __future__ import annotations

import numpy as np
from PIL import Image

_STRONGEST = 0.6  # part of the heat's colour where the heatmap is largest


def overlay(pixels: np.ndarray, heatmap: np.ndarray) -> Image.Image:
    """RGB image (S, S): grey where nothing speaks for the class, then red, yellow, white.

    Args:
      pixels: uint8 (S, S, C), 0 to 255, greyscale.
      heatmap: float32 (h, w). Its largest value is drawn strongest, 0 and less not at all: colours
        tell places of one image apart, they do not compare images.
    """
    side = pixels.shape[0]
    whole = Image.fromarray(heatmap.astype(np.float32)).resize(
        (side, side), Image.Resampling.BILINEAR
    )
    heat = np.clip(np.asarray(whole) / max(float(heatmap.max()), 1e-6), 0, 1)[..., np.newaxis]
    colours = np.clip(3 * heat - np.arange(3), 0, 1) * 255  # black, red, yellow, white
    share = _STRONGEST * heat
    return Image.fromarray(
        np.rint(pixels[..., :1] * (1 - share) + colours * share).astype(np.uint8)
    )
