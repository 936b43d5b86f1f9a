"""Writes the heatmaps of predicted images as pictures, one file each."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cxr_tfds.errors import InputError
from cxr_tfds.files import list_folder
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.imaging.pixels import upright_grey
from cxr_tfds.locks import lock_folder
from cxr_tfds.os_errors import explain_write_error
from cxr_tfds.temporary import temporary_name

from .heatmap_picture import draw_heatmap
from .model_info import ModelInfo
from .prediction import Prediction

_MAX_SIDE = 2048  # pixels, of the longer side of a radiograph
_QUALITY = 90  # of JPEG: a PNG is six times larger and takes seventy times longer
_MAX_NAME_BYTES = 207  # with the suffix below 255, the limit of most file systems
_MAX_FINDING_LETTERS = 40


class HeatmapFolder:
    """A new folder of pictures, named by image number and file: `000001-x.jpeg.jpg`.

    For several findings each image has one of each: `000001-Effusion-x.jpeg.jpg`.
    """

    def __init__(self, folder: Path, info: ModelInfo) -> None:
        if not info.heatmap:
            raise InputError(
                "The model has no heat map. Export its run again with: cxr-export RUN --out "
                "FOLDER. The variants `plain` and `rgb` have none, nor have networks that do not "
                "end in global average pooling and one dense layer."
            )
        self._folder, self._fit = folder, info.fit
        self._levels = GreyLevels.from_metadata(info.grey_levels)
        self._stack = contextlib.ExitStack()
        self._check_empty()

    def _check_empty(self) -> None:
        if list_folder(self._folder):
            raise InputError(
                f"{self._folder} is not empty. Choose another folder for the heat maps."
            )

    def __enter__(self) -> HeatmapFolder:
        """Locks the folder. Raises InputError if another process writes it."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock_folder(self._folder))
            self._check_empty()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Removes the lock."""
        self._stack.close()

    def write(self, number: int, name: str, data: bytes, prediction: Prediction) -> None:
        """Writes the pictures of an image file, each complete or not at all.

        Threads may share a folder. Raises WriteFailed if a picture cannot be written.
        """
        grey = upright_grey(data, _MAX_SIDE, levels=self._levels)
        maps = [finding.heatmap for finding in prediction.findings] or [prediction.heatmap]
        prefixes = _make_prefixes(number, [finding.name for finding in prediction.findings])
        for prefix, heatmap, statement in zip(prefixes, maps, prediction.statements(), strict=True):
            if heatmap is not None:
                content = io.BytesIO()
                picture = draw_heatmap(grey, heatmap, statement, self._fit)
                picture.save(content, "JPEG", quality=_QUALITY)
                file = f"{prefix}-{_shorten(os.path.split(name)[1], prefix)}.jpg"
                _write_file(str(self._folder), file, content.getvalue())


def _write_file(folder: str, name: str, content: bytes) -> None:
    """Writes a picture, complete or not at all.

    Without pathlib, which keeps every name in memory. Not flushed to the disk, because a lost
    picture can be drawn again.
    """
    path, temporary = f"{folder}{os.sep}{name}", f"{folder}{os.sep}{temporary_name(name)}"
    try:
        with open(temporary, "wb") as file:  # noqa: PTH123
            file.write(content)
        os.replace(temporary, path)  # noqa: PTH105
    except OSError as err:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        if (explained := explain_write_error(err, Path(path), len(content))) is err:
            raise
        raise explained from err


def _make_prefixes(number: int, findings: Sequence[str]) -> list[str]:
    """Returns a different beginning of a file name for each finding; all file systems allow it."""
    if not findings:
        return [f"{number:06}"]
    names = [re.sub(r"[^\w.-]+", "_", finding)[:_MAX_FINDING_LETTERS] for finding in findings]
    if len({name.casefold() for name in names}) < len(names):
        names = [f"{count}-{name}" for count, name in enumerate(names, start=1)]
    return [f"{number:06}-{name}" for name in names]


def _shorten(name: str, prefix: str) -> str:
    """Returns the end of a file name, at most `_MAX_NAME_BYTES` long with a prefix."""
    while len(os.fsencode(f"{prefix}-{name}")) > _MAX_NAME_BYTES:
        name = name[1:]
    return name
