"""Reads the grey values of DICOM files as intended for display.

The stages and their order follow DICOM PS3.4 N.2: stored value, modality LUT, VOI LUT or
window, then the polarity of the photometric interpretation. All of them depend on the stored value
alone, so they are computed once per possible value and applied as one look-up table. pydicom is
imported when a DICOM file is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cxr_tfds.errors import BadImage
from cxr_tfds.imaging.dicom_file import GREY, explain, is_dicom, open_dicom, read_elements
from cxr_tfds.imaging.grey_levels import (
    GreyLevels,
    apply_window,
    check_levels_remain,
    map_parts,
    robust_range,
)

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["dicom_grey", "is_dicom", "measure_dicom"]

_DEFAULT_LEVELS = GreyLevels()


def dicom_grey(data: bytes, levels: GreyLevels = _DEFAULT_LEVELS) -> np.ndarray:
    """Returns a DICOM image as displayed: uint8 (H, W), or (H, W, 3) for colour, MONOCHROME2.

    The first of several windows or VOI LUTs is used, and a VOI LUT rather than a window, unless
    `levels` has a window or percentiles. Without either, the range of Bits Stored becomes 0 to 255
    if they are fewer than Bits Allocated, and otherwise the range in `levels`. If `levels`
    has none, an image that would keep fewer than 32 grey levels is refused. Overlays are ignored.

    Raises:
      BadImage: pydicom or a decoder is not installed; the file is corrupt or of an unsupported
        kind; it does not fit `levels`; or it has no pixels or several frames, or needs more memory
        than allowed.
    """
    with open_dicom(data) as (dataset, values, photometric):
        if photometric in GREY:
            return _display_values(dataset, values, photometric, levels)
        if values.dtype.itemsize > 1:
            raise BadImage(f"{photometric} with 16 bits per sample; expected 8")
        levels.check_depth(8)
        # Y is the grey value, with the weights that Pillow uses for RGB.
        grey = values[..., 0] if photometric.startswith("YBR") else values
        return np.ascontiguousarray(grey)


def measure_dicom(data: bytes) -> tuple[float, float] | None:
    """Returns the robust range of rescaled values, or None if the file declares how to show them.

    Pixels of the padding value are left out.

    Raises:
      BadImage: As `dicom_grey`.
    """
    dataset = read_elements(data)
    try:
        if (
            dataset.get("PhotometricInterpretation") not in GREY
            or _is_declared(dataset)
            or _has_voi(dataset)
        ):
            return None
        from pydicom.pixels import apply_modality_lut

        with open_dicom(data) as (dataset, values, _):
            values = values[values != _padding(dataset)]
            if values.size == 0:
                return None
            ends = apply_modality_lut(np.array(robust_range(values), np.int32), dataset)
    except Exception as err:  # pydicom raises many kinds
        raise explain(err) from err
    return float(ends.min()), float(ends.max())


def _padding(dataset: Dataset) -> int | None:
    value = dataset.get("PixelPaddingValue")
    return value if isinstance(value, int) else None


def _is_declared(dataset: Dataset) -> bool:
    """Returns whether Bits Stored, or the end of a modality LUT, declares the range of values."""
    bits = int(dataset.get("BitsStored") or 0)
    return (
        bits <= 8
        or bits < int(dataset.get("BitsAllocated") or 0)
        or bool(dataset.get("ModalityLUTSequence"))
    )


def _has_voi(dataset: Dataset) -> bool:
    return bool(dataset.get("VOILUTSequence")) or None not in _window(dataset)


def _window(dataset: Dataset) -> tuple[float | None, float | None]:
    return _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))


def _display_values(
    dataset: Dataset, values: np.ndarray, photometric: str, levels: GreyLevels
) -> np.ndarray:
    """Returns uint8 (H, W), 0 to 255, MONOCHROME2, of stored values (H, W)."""
    bits = int(dataset.BitsStored)
    levels.check_depth(bits)
    lowest = -(1 << bits - 1) if int(dataset.PixelRepresentation) else 0
    highest = lowest + (1 << bits) - 1
    low, high = values.min(), values.max()
    if low < lowest or high > highest:
        raise BadImage(f"values {low} to {high}; {bits} bits stored allow {lowest} to {highest}")
    stored = np.arange(lowest, highest + 1, dtype=np.int32)
    fractions = _fractions(dataset, stored, values, levels)
    if photometric == "MONOCHROME1":
        fractions = 1 - fractions
    table = np.floor(fractions * 255 + 0.5).astype(np.uint8)
    shown = map_parts(lambda part: table[part.astype(np.int32) - lowest], values)
    if levels.needs_range and not _is_declared(dataset) and not _has_voi(dataset):
        check_levels_remain(values, shown)
    return shown


def _fractions(
    dataset: Dataset, stored: np.ndarray, values: np.ndarray, levels: GreyLevels
) -> np.ndarray:
    """Returns the displayed value, 0 to 1, of each possible stored value, before polarity.

    Args:
      dataset: Elements of the file.
      stored: The possible stored values, sorted.
      values: The stored values of the image.
      levels: How the dataset maps values without a window.
    """
    from pydicom.pixels import apply_modality_lut, apply_voi

    if dataset.get("RescaleSlope") == 0:
        raise BadImage("rescale slope of 0, which makes all values equal")
    rescaled = apply_modality_lut(stored, dataset).astype(np.float64)
    if isinstance(levels.window, tuple):
        return apply_window(rescaled, *levels.window)
    if levels.percentile is not None:
        image = np.empty(values.shape)
        for row, shown in zip(values, image, strict=True):  # without an index of 8 bytes a pixel
            shown[:] = rescaled[row.astype(np.int32) - stored[0]]
        low, high = np.percentile(image, levels.percentile, overwrite_input=True)
        return np.clip((rescaled - low) / max(high - low, 1e-6), 0, 1)
    if dataset.get("VOILUTSequence"):
        bits = dataset.VOILUTSequence[0].LUTDescriptor[2]
        found = apply_voi(np.rint(rescaled).astype(np.int32), dataset)
        return np.clip(found / ((1 << bits) - 1), 0, 1)
    center, width = _window(dataset)
    if center is not None and width is not None:
        function = str(dataset.get("VOILUTFunction") or "LINEAR")
        return _apply_function(rescaled, center, width, function)
    low, high = _range(dataset, rescaled, values, levels)
    return np.clip((rescaled - low) / (high - low), 0, 1)


def _range(
    dataset: Dataset, rescaled: np.ndarray, values: np.ndarray, levels: GreyLevels
) -> tuple[float, float]:
    """Returns the rescaled values that become 0 and 255 in a file without a window."""
    if dataset.get("ModalityLUTSequence"):
        return 0, (1 << dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    if not _is_declared(dataset):
        if levels.measured is not None:
            return levels.measured
        if levels.bits is not None and not int(dataset.PixelRepresentation):
            levels.check_bits(values)
            rescaled = rescaled[: 1 << levels.bits]
    return min(rescaled[0], rescaled[-1]), max(rescaled[0], rescaled[-1])  # rescaling is linear


def _first(value: object) -> float | None:
    """Returns a number, or the first of several."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, (str, int, float)) else next(iter(value)))  # type: ignore[call-overload]


def _apply_function(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """Returns values 0 to 1 by PS3.3 C.11.2.1.2 (LINEAR) and C.11.2.1.3 (other functions)."""
    least = 1 if function == "LINEAR" else np.finfo(float).tiny
    if not width >= least:
        expected = "1 or more" if function == "LINEAR" else "a positive width"
        raise BadImage(f"window of width {width:g}; expected {expected}")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR":
        return apply_window(values, center, width)
    if function != "LINEAR_EXACT":
        raise BadImage(f"VOI LUT function {function!r}; expected LINEAR, LINEAR_EXACT or SIGMOID")
    sloped = (values - center) / width + 0.5
    sloped = np.where(values > center + width / 2, 1, sloped)
    return np.where(values <= center - width / 2, 0, sloped)
