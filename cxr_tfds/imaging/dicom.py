"""Reads the grey values of DICOM files as intended for display.

The stages and their order follow DICOM PS3.4 N.2: stored value, modality LUT, VOI LUT or
window, then the polarity of the photometric interpretation. All of them depend on the stored value
alone, so they are computed once per possible value and applied as one look-up table. Only the
elements listed below are read: no name, date or number of a patient. pydicom is imported when a
DICOM file is read.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_tfds.errors import BadImage

if TYPE_CHECKING:
    from pydicom import Dataset

DETECTOR_BITS = 12  # of radiography detectors, often stored unscaled in 16 bits
_INSTALL = 'pip install "cxr-tfds[dicom]"'
_PREAMBLE_BYTES = 128
# Without a preamble, a file begins with an element of group 2 or 8, explicit (VR in capitals) or
# implicit.
_NO_PREAMBLE = re.compile(rb"[\x02\x08]\0..(?:[A-Z]{2}|..\0\0)", re.DOTALL)
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_HEADER_BYTES = 4096  # contain the transfer syntax
_ELEMENTS = [
    "BitsAllocated", "BitsStored", "Columns", "DoubleFloatPixelData", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "FloatPixelData", "HighBit", "ModalityLUTSequence",
    "NumberOfFrames", "PhotometricInterpretation", "PixelData", "PixelRepresentation",
    "PlanarConfiguration", "RescaleIntercept", "RescaleSlope", "Rows", "SamplesPerPixel",
    "VOILUTFunction", "VOILUTSequence", "WindowCenter", "WindowWidth",
]  # fmt: skip
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
# Decoders of lossy JPEG may differ by a grey level, so only Pillow is used, which every device has.
_PILLOW_ONLY = (
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91",
)  # fmt: skip
_JP2_SIGNATURE = b"\0\0\0\x0cjP  "
_BOX_HEADER_BYTES = 8
_MAX_BITS = 16
_MIN_LEVELS = 16


def is_dicom(data: bytes) -> bool:
    """Returns whether a file is DICOM by its contents, with or without preamble (PS3.10, 7.1)."""
    magic = data[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4]
    return magic == b"DICM" or _NO_PREAMBLE.match(data) is not None


def check_pixel_count(width: int, height: int, limit: int) -> None:
    """Raises BadImage for an image without pixels or with more than `limit`."""
    if not 0 < width * height <= limit:
        raise BadImage(f"{width} x {height} pixels; expected at least 1 and at most {limit:,}")


def dicom_grey(data: bytes, max_pixels: int) -> np.ndarray:
    """Returns a DICOM image as displayed: uint8 (H, W), or (H, W, 3) for colour, MONOCHROME2.

    Without a VOI LUT or window the range of Bits Stored becomes 0 to 255, not the range of
    the image. As in other 16-bit files, values that all fit into 12 bits are read as unscaled
    12-bit values.
    An image that would keep fewer than 16 grey levels, like CT without its window, is refused. The
    first of several windows or VOI LUTs is used, and a VOI LUT rather than a window. Overlays are
    ignored.

    Raises:
      BadImage: pydicom or a decoder is not installed; the file is corrupt or of an unsupported
        kind; or it has no pixels, several frames or more than `max_pixels`.
    """
    try:
        from pydicom import dcmread
    except ModuleNotFoundError:
        raise BadImage(f"DICOM, which needs pydicom: {_INSTALL}") from None
    if _DEFLATED in data[:_HEADER_BYTES]:  # pydicom would decompress it to any size
        raise BadImage(
            "DICOM in Deflated Explicit VR Little Endian; save it in another transfer syntax"
        )
    try:
        dataset = dcmread(io.BytesIO(data), force=True, specific_tags=_ELEMENTS)
        _check(dataset, max_pixels)
        values, photometric = _stored_values(dataset)
        if photometric in _GREY:
            return _display_values(dataset, values, photometric)
        if values.dtype.itemsize > 1:
            raise BadImage(f"{photometric} with 16 bits per sample; expected 8")
        # Y is the grey value, with the weights that Pillow uses for RGB.
        return np.ascontiguousarray(values[..., 0]) if photometric.startswith("YBR") else values
    except BadImage:
        raise
    except Exception as err:  # pydicom and its decoders raise many kinds
        reason = " ".join(str(err).split()) or type(err).__name__
        raise BadImage(f"cannot be decoded as DICOM: {reason}") from err


def _check(dataset: Dataset, max_pixels: int) -> None:
    if "PixelData" not in dataset:
        floating = "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset
        raise BadImage(f"DICOM {'with floating-point' if floating else 'without'} pixel data")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        raise BadImage(f"{frames} frames; expected one image")
    check_pixel_count(dataset.Columns, dataset.Rows, max_pixels)
    bits = int(dataset.BitsStored)
    if not 1 <= bits <= _MAX_BITS:
        raise BadImage(f"{bits} bits per pixel; expected at most {_MAX_BITS}")
    if dataset.get("HighBit", bits - 1) != bits - 1:
        raise BadImage(f"{bits} bits below bit {dataset.HighBit}; expected the lowest {bits} bits")
    if (photometric := dataset.PhotometricInterpretation) not in (known := _GREY + _COLOUR):
        raise BadImage(f"photometric interpretation {photometric}; expected {', '.join(known)}")


def _stored_values(dataset: Dataset) -> tuple[np.ndarray, str]:
    """Returns decoded integers (H, W) or (H, W, 3) and their photometric interpretation."""
    from pydicom import uid
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:  # no preamble, so not compressed
        implicit, little = dataset.original_encoding
        explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        syntax = uid.ImplicitVRLittleEndian if implicit else explicit
        dataset.file_meta.TransferSyntaxUID = syntax
    syntax = uid.UID(syntax)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise BadImage(f"DICOM in {syntax.name}, for which no decoder exists") from None
    # Pillow reads JPEG Extended with 8 bits only.
    extended = syntax == uid.JPEGExtended12Bit and dataset.BitsStored > 8
    by_pillow = syntax in _PILLOW_ONLY and not extended
    if not decoder.is_available or (not by_pillow and decoder.available_plugins == ("pillow",)):
        raise BadImage(
            f"DICOM in {syntax.name} with {dataset.BitsStored} bits; no decoder is installed. "
            f"Any of these reads it: {'; '.join(decoder.missing_dependencies)}"
        )
    if syntax.is_encapsulated:
        _check_boxes(dataset.PixelData)
    plugin = "pillow" if by_pillow else ""
    # pydicom 3.0.2 annotates this option as a dict of options.
    options: Any = {"allow_excess_frames": False}
    values, properties = decoder.as_array(dataset, raw=True, decoding_plugin=plugin, **options)
    return values, str(properties["photometric_interpretation"])


def _check_boxes(encapsulated: bytes) -> None:
    """Refuses a JP2 box of 0 bytes before the codestream: pydicom 3.0.2 would loop forever."""
    at = encapsulated.find(_JP2_SIGNATURE)
    while 0 <= at < len(encapsulated) and encapsulated[at + 4 : at + 8] != b"jp2c":
        length = int.from_bytes(encapsulated[at : at + 4], "big")
        if length < _BOX_HEADER_BYTES:
            raise BadImage(f"JPEG 2000 box of {length} bytes; expected {_BOX_HEADER_BYTES} or more")
        at += length


def _display_values(dataset: Dataset, values: np.ndarray, photometric: str) -> np.ndarray:
    """Returns uint8 (H, W), 0 to 255, MONOCHROME2, of stored values (H, W)."""
    signed = int(dataset.PixelRepresentation)
    bits = int(dataset.BitsStored)
    lowest = -(1 << bits - 1) if signed else 0
    highest = lowest + (1 << bits) - 1
    low, high = values.min(), values.max()
    if low < lowest or high > highest:
        raise BadImage(f"values {low} to {high}; {bits} bits stored allow {lowest} to {highest}")
    unscaled = not signed and bits > DETECTOR_BITS and high < 1 << DETECTOR_BITS
    window = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    stored = np.arange(lowest, highest + 1, dtype=np.int32)
    fractions = _fractions(dataset, stored, DETECTOR_BITS if unscaled else bits, window)
    if photometric == "MONOCHROME1":
        fractions = 1 - fractions
    table = np.floor(fractions * 255 + 0.5).astype(np.uint8)
    shown = table[values.astype(np.int32) - lowest]
    levels = int(shown.max()) - int(shown.min()) + 1
    has_voi = dataset.get("VOILUTSequence") or None not in window
    if bits > 8 and levels < _MIN_LEVELS and low < high and not has_voi:
        raise BadImage(
            f"no window, and values {low} to {high} of {bits} bits would become {levels} of 256 "
            "grey levels; add a window to the file"
        )
    return shown


def _fractions(
    dataset: Dataset, stored: np.ndarray, bits_used: int, window: tuple[float | None, float | None]
) -> np.ndarray:
    """Returns the displayed value, 0 to 1, of each possible stored value, before polarity.

    Without a window, `bits_used` span the range.
    """
    from pydicom.pixels import apply_modality_lut, apply_voi

    if dataset.get("RescaleSlope") == 0:
        raise BadImage("rescale slope of 0, which makes all values equal")
    values = apply_modality_lut(stored, dataset)
    if dataset.get("VOILUTSequence"):
        bits = dataset.VOILUTSequence[0].LUTDescriptor[2]
        found = apply_voi(np.rint(values).astype(np.int32), dataset)
        return np.clip(found / ((1 << bits) - 1), 0, 1)
    center, width = window
    if center is not None and width is not None:
        function = str(dataset.get("VOILUTFunction") or "LINEAR")
        return _apply_window(values.astype(np.float64), center, width, function)
    if dataset.get("ModalityLUTSequence"):
        low, high = 0, (1 << dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    else:  # slope and intercept are linear
        low, high = sorted((values[0], values[(1 << bits_used) - 1]))
    return np.clip((values - low) / (high - low), 0, 1)


def _first(value: object) -> float | None:
    """Returns a number, or the first of several."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, (str, int, float)) else next(iter(value)))  # type: ignore[call-overload]


def _apply_window(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """Returns values 0 to 1 by PS3.3 C.11.2.1.2 (LINEAR) and C.11.2.1.3 (other functions)."""
    least = 1 if function == "LINEAR" else np.finfo(float).tiny
    if not width >= least:
        expected = "1 or more" if function == "LINEAR" else "a positive width"
        raise BadImage(f"window of width {width:g}; expected {expected}")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    elif function != "LINEAR_EXACT":
        raise BadImage(f"VOI LUT function {function!r}; expected LINEAR, LINEAR_EXACT or SIGMOID")
    sloped = (values - center) / (width or 1) + 0.5
    # Clipping alone would be wrong for a LINEAR window of width 1, which is a step.
    sloped = np.where(values > center + width / 2, 1, sloped)
    return np.where(values <= center - width / 2, 0, sloped)
