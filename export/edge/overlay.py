"""Heatmaps laid over their radiographs as PNG files. NumPy and Pillow only."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.overlay import overlay

if TYPE_CHECKING:
    from .classifier import Classifier, Prediction
    from .listing import Found

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
