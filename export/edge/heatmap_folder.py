"""Writes heatmaps drawn over their radiographs as PNG files."""

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
    from .classifier import Classifier

_MAX_NAME_BYTES = 200  # with number and suffix below 255, the limit of most file systems


class HeatmapFolder:
    """A new folder of heatmaps, named by row number and file: `000001-x.jpeg.png`.

    Raises:
      InputError: The model has no heatmap, or the folder is not empty.
    """

    def __init__(self, folder: Path, classifier: Classifier) -> None:
        if not classifier.info.heatmap:
            raise InputError("The model has no heatmap. Export it with: cxr-export --variant heatmap")
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty. Choose another folder for the heatmaps.")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def write(self, number: int, name: str, pixels: np.ndarray, heatmap: np.ndarray) -> None:
        """Writes one heatmap, complete or not at all.

        Raises:
          InputError: The file cannot be written.
        """
        content = io.BytesIO()
        overlay(pixels, heatmap).save(content, "PNG")
        path = f"{self._folder}{os.sep}{number:06}-{_shorten(os.path.split(name)[1])}.png"
        try:
            with open(path, "wb") as file:  # noqa: PTH123, see `input_files`
                file.write(content.getvalue())
        except OSError as err:
            with contextlib.suppress(OSError):
                Path(path).unlink()
            raise InputError(f"{path} cannot be written: {err.strerror or err}.") from err


def _shorten(name: str) -> str:
    """Returns the end of a file name, at most `_MAX_NAME_BYTES` long."""
    while len(os.fsencode(name)) > _MAX_NAME_BYTES:
        name = name[1:]
    return name
