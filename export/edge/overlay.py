"""Heatmaps laid over their radiographs as PNG files. NumPy and Pillow only."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.overlay import overlay

if TYPE_CHECKING:
    from .classifier import Classifier, Prediction
    from .listing import Found

_NAME = (
    200  # bytes kept of a file's name: with number and ending below the 255 of most file systems
)


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
        path = f"{self._folder}{os.sep}{number:06}-{_end(os.path.split(file.name)[1])}.png"
        try:
            with open(path, "wb") as opened:  # noqa: PTH123, see `files`
                opened.write(content.getvalue())
        except OSError as err:
            with contextlib.suppress(OSError):
                Path(path).unlink()
            raise InputError(f"{path} cannot be written: {err.strerror or err}.") from err


def _end(name: str) -> str:
    """As much of the end of a file's name as fits."""
    while len(os.fsencode(name)) > _NAME:
        name = name[1:]
    return name
