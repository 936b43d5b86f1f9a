"""A heatmap laid over its radiograph as a PNG file. NumPy and Pillow only."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cxr_tfds.errors import InputError

if TYPE_CHECKING:
    from .classifier import Classifier, Prediction
    from .listing import Found

_STRONGEST = 0.6  # part of the heat's colour where the heatmap is largest
_NAME = 100  # characters kept of a file's name


class Overlays:
    """A folder of overlays, named by the number of the answer and the file: `000001-x.jpeg.png`.

    Raises:
      InputError: the model has no heatmap, or the folder is no folder or holds something.
    """

    def __init__(self, folder: Path, classifier: Classifier) -> None:
        if not classifier.card.heatmap:
            raise InputError("The model has no heatmap. Export it with: cxr-export --heatmap")
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty. Choose another folder for the heatmaps.")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def write(self, number: int, file: Found, pixels: np.ndarray, answer: Prediction) -> None:
        """Writes the overlay of one answer, whole or not at all.

        Raises:
          InputError: it cannot be written.
        """
        assert answer.heatmap is not None
        content = io.BytesIO()
        overlay(pixels, answer.heatmap).save(content, "PNG")
        path = self._folder / f"{number:06}-{Path(file.name).name[-_NAME:]}.png"
        try:
            path.write_bytes(content.getvalue())
        except OSError as err:
            path.unlink(missing_ok=True)
            raise InputError(f"{path} cannot be written: {err.strerror or err}.") from err


def overlay(pixels: np.ndarray, heatmap: np.ndarray) -> Image.Image:
    """RGB image (S, S): grey where nothing speaks for the class, then red, yellow, white.

    Args:
      pixels: uint8 (S, S, C), 0 to 255, greyscale.
      heatmap: float32 (h, w). Its largest value is drawn strongest, 0 and less not at all: colours
        tell places of one image apart, they do not compare images.
    """
    side = pixels.shape[0]
    whole = Image.fromarray(heatmap.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    heat = np.clip(np.asarray(whole) / max(float(heatmap.max()), 1e-6), 0, 1)[..., np.newaxis]
    colours = np.clip(3 * heat - np.arange(3), 0, 1) * 255  # black, red, yellow, white
    share = _STRONGEST * heat
    return Image.fromarray(np.rint(pixels[..., :1] * (1 - share) + colours * share).astype(np.uint8))
