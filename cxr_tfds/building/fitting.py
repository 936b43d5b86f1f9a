"""Decodes and fits source files. Loads no TensorFlow, so remote workers start quickly."""

from __future__ import annotations

from typing import NamedTuple

from cxr_tfds.building.file_stats import compute_checksum
from cxr_tfds.errors import BadImage
from cxr_tfds.imaging.dicom import is_dicom
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.imaging.pixel_stats import PixelStats
from cxr_tfds.imaging.pixels import DecodeResult, decode
from cxr_tfds.regular_files import read_or_explain
from cxr_tfds.sources import SourcePath

_TRIAL_SIZE = 224  # size at which files are decoded that are stored unchanged


class FitSettings(NamedTuple):
    """How images are stored; see `cxr_tfds.building.config.RadiographConfig`."""

    size: int | None  # None stores the source file
    channels: int = 1
    fit: str = "stretch"
    levels: GreyLevels = GreyLevels()


def fit_file(file: SourcePath | bytes | BadImage, settings: FitSettings) -> DecodeResult:
    """Decodes one source file as the dataset stores it.

    Args:
      file: The file, or what `read_or_explain` returned for it on another machine.
      settings: Size, channels, fit and grey levels.

    Returns:
      The image with `file_size`, `checksum`, `statistics` and, if the source file is stored,
      `source`; or the reason why the file cannot be used.
    """
    data = file if isinstance(file, (bytes, BadImage)) else read_or_explain(file)
    if isinstance(data, BadImage):
        return data
    if settings.size is None and is_dicom(data):
        return BadImage(
            "DICOM, which may name the patient and is therefore not stored unchanged; "
            "build the dataset with a size"
        )
    # Files stored unchanged are decoded as well, to find corrupt ones before training does.
    size = settings.size or _TRIAL_SIZE
    image = decode(
        data,
        size,
        fit=settings.fit,
        channels=settings.channels,
        levels=settings.levels,
        count_levels=True,
    )
    if isinstance(image, BadImage):
        return image
    return image._replace(
        file_size=len(data),
        checksum=compute_checksum(data),
        pixel_checksum=compute_checksum(image.pixels),
        source=data if settings.size is None else b"",
        statistics=PixelStats.from_pixels(image.pixels),
    )
