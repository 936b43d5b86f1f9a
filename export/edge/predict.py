"""Predicts many files in order and decodes the next ones while the model runs."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.imaging.overlay import overlay
from cxr_tfds.imaging.pixels import DecodeResult
from cxr_tfds.parallel import all_cores, ordered_map

from .classifier import Classifier
from .input_files import InputFile, read_bytes
from .prediction import Prediction

_MAX_NAME_BYTES = 207  # with the suffix below 255, the limit of most file systems
_MAX_FINDING_LETTERS = 40
_NO_HEATMAP = (
    "The model has no heat map. Export its run again with: cxr-export RUN --out FOLDER. The "
    "variants `plain` and `rgb` have none, nor have networks without global average pooling."
)


class HeatmapFolder:
    """A new folder of heatmaps, named by image number and file: `000001-x.jpeg.png`.

    For several findings each image has one of each: `000001-Effusion-x.jpeg.png`.
    """

    def __init__(self, folder: Path, classifier: Classifier) -> None:
        if not classifier.info.heatmap:
            raise InputError(_NO_HEATMAP)
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty. Choose another folder for the heatmaps.")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def write(self, number: int, name: str, pixels: np.ndarray, prediction: Prediction) -> None:
        """Writes the heatmaps of an image, each complete or not at all, or raises InputError."""
        parts = [(f"{number:06}", prediction.heatmap)]
        if prediction.findings:
            finding_names = _make_file_names([finding.name for finding in prediction.findings])
            parts = [
                (f"{number:06}-{finding_name}", finding.heatmap)
                for finding_name, finding in zip(finding_names, prediction.findings, strict=True)
            ]
        for prefix, heatmap in parts:
            if heatmap is not None:
                content = io.BytesIO()
                overlay(pixels, heatmap).save(content, "PNG")
                file = f"{prefix}-{_shorten(os.path.split(name)[1], prefix)}.png"
                self._write_file(f"{self._folder}{os.sep}{file}", content.getvalue())

    def _write_file(self, path: str, content: bytes) -> None:
        try:
            with open(path, "wb") as file:  # noqa: PTH123, see `input_files`
                file.write(content)
        except OSError as err:
            with contextlib.suppress(OSError):
                Path(path).unlink()
            raise InputError(f"{path} cannot be written: {err.strerror or err}.") from err


def predict_files(
    classifier: Classifier, files: Iterable[InputFile], heatmaps: HeatmapFolder | None = None
) -> Iterator[tuple[InputFile, Prediction | BadImage]]:
    """Yields each file with its prediction or why it has none, in order, with few in memory."""
    with all_cores() as pool:
        decoded = ordered_map(partial(_decode_file, classifier), files, pool)
        for number, (file, image) in enumerate(decoded, start=1):
            if isinstance(image, BadImage):
                yield file, image
                continue
            prediction = classifier.predict(image.pixels)
            if heatmaps is not None:
                heatmaps.write(number, file.name, image.pixels, prediction)
            yield file, prediction


def _decode_file(classifier: Classifier, file: InputFile) -> tuple[InputFile, DecodeResult]:
    data = file.content
    if data is None:
        try:
            data = read_bytes(file.name) if file.path is None else file.path.read_bytes()
        except BadImage as err:  # a corrupt entry of an archive
            data = err
        except FileNotFoundError:
            data = BadImage("no longer exists")
        except OSError as err:
            data = BadImage(f"cannot be read: {err.strerror or err}")
    image = data if isinstance(data, BadImage) else classifier.decode(data)
    return file._replace(content=None), image


def _make_file_names(findings: Sequence[str]) -> list[str]:
    """Returns a different name for each finding that every file system allows."""
    names = [re.sub(r"[^\w.-]+", "_", finding)[:_MAX_FINDING_LETTERS] for finding in findings]
    if len({name.casefold() for name in names}) == len(names):
        return names
    return [f"{number}-{name}" for number, name in enumerate(names, start=1)]


def _shorten(name: str, prefix: str) -> str:
    """Returns the end of a file name, at most `_MAX_NAME_BYTES` long with a prefix."""
    while len(os.fsencode(f"{prefix}-{name}")) > _MAX_NAME_BYTES:
        name = name[1:]
    return name
