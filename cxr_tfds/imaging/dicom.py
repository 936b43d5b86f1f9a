"""DICOM files to grey values as they are meant to be shown; pydicom loads where such a file is read.

The stages and their order are those of DICOM PS3.4 N.2: stored value, modality LUT, VOI LUT, and last the
polarity that the photometric interpretation tells. All of it depends on the stored value alone, so it is worked
out once for each value there can be, and the image is one look-up. Only the elements named here are read:
no name, no date, no number of a patient.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_tfds.errors import BadImage

if TYPE_CHECKING:
    from pydicom import Dataset

INSTALL = 'pip install "cxr-tfds[dicom]"'
_PREAMBLE_BYTES = 128
# Without a preamble a file begins with an element of group 2 or 8, explicit (its type in capitals) or implicit.
_BARE = re.compile(rb"[\x02\x08]\0..(?:[A-Z]{2}|..\0\0)", re.DOTALL)
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_HEADER_BYTES = 4096  # the transfer syntax stands among the first elements
_ELEMENTS = [
    "BitsAllocated", "BitsStored", "Columns", "DoubleFloatPixelData", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "FloatPixelData", "HighBit", "ModalityLUTSequence", "NumberOfFrames",
    "PhotometricInterpretation", "PixelData", "PixelRepresentation", "PlanarConfiguration", "RescaleIntercept",
    "RescaleSlope", "Rows", "SamplesPerPixel", "VOILUTFunction", "VOILUTSequence", "WindowCenter", "WindowWidth",
]  # fmt: skip
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
# Lossy JPEG may differ by a grey level between decoders: always the same one, the one every device has.
_BY_PILLOW = (
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91",
)  # fmt: skip
_JP2_SIGNATURE = b"\0\0\0\x0cjP  "
_BOX_HEADER_BYTES = 8
_MOST_BITS = 16
_DETECTOR_BITS = 12
_FEWEST_LEVELS = 16


def is_dicom(data: bytes) -> bool:
    """Whether a file is DICOM by its content, with or without the preamble of PS3.10 section 7.1."""
    return data[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] == b"DICM" or _BARE.match(data) is not None


def dicom_grey(data: bytes, max_pixels: int) -> np.ndarray:
    """The grey values of a DICOM file, as they are meant to be shown.

    Without a VOI LUT or window that stage is the identity (PS3.4 N.2): the whole range that Bits Stored
    allows goes to 0 to 255, not the image's own range. As in other 16-bit files, values that all fit into 12 bits
    are taken as 12 bits unscaled; where fewer than 16 grey levels would be left otherwise, as in CT without its
    window, the image is refused. Of several windows or VOI LUTs the first is taken, of both the VOI LUT.
    Overlays are left out.

    Returns:
      uint8 (H, W), or (H, W, 3) of a colour image; 0 to 255, MONOCHROME2.

    Raises:
      BadImage: pydicom or a decoder is not installed, there are no pixels, several frames or more than
        `max_pixels`, or the file is damaged or of a kind that is not read.
    """
    try:
        from pydicom import dcmread
    except ModuleNotFoundError:
        raise BadImage(f"is DICOM, which needs pydicom: {INSTALL}") from None
    if _DEFLATED in data[:_HEADER_BYTES]:  # pydicom would unpack it to whatever size it has
        raise BadImage(
            "is DICOM in Deflated Explicit VR Little Endian; save it in another transfer syntax"
        )
    try:
        dataset = dcmread(io.BytesIO(data), force=True, specific_tags=_ELEMENTS)
        _check(dataset, max_pixels)
        values, photometric = _stored_values(dataset)
        if photometric not in _GREY:
            return _colour(values, photometric)
        return _shown(dataset, values, photometric)
    except BadImage:
        raise
    except Exception as err:  # neither pydicom nor its decoders promise a closed set
        reason = " ".join(str(err).split()) or type(err).__name__
        raise BadImage(f"cannot be decoded as DICOM: {reason}") from err


def _check(dataset: Dataset, max_pixels: int) -> None:
    if "PixelData" not in dataset:
        floating = "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset
        raise BadImage(f"is DICOM {'with floating-point' if floating else 'without'} pixel data")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        raise BadImage(f"holds {frames} frames; expected one image")
    if not 0 < dataset.Rows * dataset.Columns <= max_pixels:
        raise BadImage(
            f"has {dataset.Columns} x {dataset.Rows} pixels; at least 1 and at most {max_pixels:,} are allowed"
        )
    bits = int(dataset.BitsStored)
    if not 1 <= bits <= _MOST_BITS:
        raise BadImage(f"has {bits} bits per pixel; at most {_MOST_BITS} are read")
    if dataset.get("HighBit", bits - 1) != bits - 1:
        raise BadImage(
            f"keeps its {bits} bits below bit {dataset.HighBit}; expected them in the lowest {bits}"
        )
    if (photometric := dataset.PhotometricInterpretation) not in _GREY + _COLOUR:
        raise BadImage(f"is {photometric}; expected one of {', '.join(_GREY + _COLOUR)}")


def _stored_values(dataset: Dataset) -> tuple[np.ndarray, str]:
    """Integers (H, W) or (H, W, 3) as decoded, and the photometric interpretation they have then."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import (
        UID,
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        JPEGExtended12Bit,
    )

    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:  # without a preamble; what is compressed always has one
        implicit, little = dataset.original_encoding
        syntax = (
            ImplicitVRLittleEndian
            if implicit
            else ExplicitVRLittleEndian
            if little
            else ExplicitVRBigEndian
        )
        dataset.file_meta.TransferSyntaxUID = syntax
    syntax = UID(syntax)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise BadImage(f"is DICOM in {syntax.name}; no decoder for it is known") from None
    by_pillow = syntax in _BY_PILLOW and not (
        syntax == JPEGExtended12Bit and dataset.BitsStored > 8
    )
    if not decoder.is_available or (not by_pillow and decoder.available_plugins == ("pillow",)):
        ways = "; ".join(decoder.missing_dependencies)
        raise BadImage(
            f"is DICOM in {syntax.name} of {dataset.BitsStored} bits; no decoder for it is installed. "
            f"One of these reads it: {ways}"
        )
    if syntax.is_encapsulated:
        _check_boxes(dataset.PixelData)
    plugin = "pillow" if by_pillow else ""
    only_one: Any = {
        "allow_excess_frames": False
    }  # an option that pydicom 3.0.2 types as a dict of options
    values, said = decoder.as_array(dataset, raw=True, decoding_plugin=plugin, **only_one)
    return values, str(said["photometric_interpretation"])


def _check_boxes(encapsulated: bytes) -> None:
    """Refuses what pydicom 3.0.2 would read without end: a JP2 box before the codestream that is 0 bytes long."""
    at = encapsulated.find(_JP2_SIGNATURE)
    while 0 <= at < len(encapsulated) and encapsulated[at + 4 : at + 8] != b"jp2c":
        length = int.from_bytes(encapsulated[at : at + 4], "big")
        if length < _BOX_HEADER_BYTES:
            raise BadImage(
                f"holds a JPEG 2000 box of {length} bytes; expected {_BOX_HEADER_BYTES} or more"
            )
        at += length


def _colour(values: np.ndarray, photometric: str) -> np.ndarray:
    if values.dtype.itemsize > 1:
        raise BadImage(f"is {photometric} with 16 bits per sample; expected 8")
    if photometric.startswith(
        "YBR"
    ):  # Y is the grey value, by the weights Pillow uses for RGB, too
        return np.ascontiguousarray(values[..., 0])
    return values


def _shown(dataset: Dataset, values: np.ndarray, photometric: str) -> np.ndarray:
    signed = int(dataset.PixelRepresentation)
    bits = int(dataset.BitsStored)
    lowest = -(1 << bits - 1) if signed else 0
    highest = lowest + (1 << bits) - 1
    if values.min() < lowest or values.max() > highest:
        raise BadImage(
            f"has values {values.min()} to {values.max()}; its {bits} bits stored allow {lowest} to {highest}"
        )
    unscaled = not signed and bits > _DETECTOR_BITS and values.max() < 1 << _DETECTOR_BITS
    every = np.arange(lowest, highest + 1, dtype=np.int32)
    part = _part_of_range(dataset, every, _DETECTOR_BITS if unscaled else bits)
    if photometric == "MONOCHROME1":
        part = 1 - part
    table = np.floor(part * 255 + 0.5).astype(np.uint8)
    shown = table[values.astype(np.int32) - lowest]
    levels = int(shown.max()) - int(shown.min()) + 1
    if (
        bits > 8
        and levels < _FEWEST_LEVELS
        and values.min() < values.max()
        and not _has_voi(dataset)
    ):
        raise BadImage(
            f"has no window, and its values {values.min()} to {values.max()} of {bits} bits would come out as "
            f"{levels} of 256 grey levels; write a window into it"
        )
    return shown


def _has_voi(dataset: Dataset) -> bool:
    window = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    return bool(dataset.get("VOILUTSequence")) or None not in window


def _part_of_range(dataset: Dataset, every: np.ndarray, bits_filled: int) -> np.ndarray:
    """What each stored value is shown as, float64 0 to 1, before polarity.

    Args:
      every: each stored value there can be, in order.
      bits_filled: how many bits the range has where no window tells it.
    """
    from pydicom.pixels import apply_modality_lut, apply_voi

    if dataset.get("RescaleSlope") == 0:
        raise BadImage("has a rescale slope of 0, which makes all values one")
    values = apply_modality_lut(every, dataset)
    if dataset.get("VOILUTSequence"):
        bits = dataset.VOILUTSequence[0].LUTDescriptor[2]
        found = apply_voi(np.rint(values).astype(np.int32), dataset)
        return np.clip(found / ((1 << bits) - 1), 0, 1)
    center, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if center is not None and width is not None:
        return _window(
            values.astype(np.float64), center, width, str(dataset.get("VOILUTFunction") or "LINEAR")
        )
    if dataset.get("ModalityLUTSequence"):
        low, high = 0, (1 << dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    else:
        low, high = sorted(
            (values[0], values[(1 << bits_filled) - 1])
        )  # slope and intercept are linear
    return np.clip((values - low) / (high - low), 0, 1)


def _first(value: object) -> float | None:
    """A number, or the first of several."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, (str, int, float)) else next(iter(value)))  # type: ignore[call-overload]


def _window(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """PS3.3 C.11.2.1.2 (LINEAR) and C.11.2.1.3 (SIGMOID, LINEAR_EXACT), with an output of 0 to 1."""
    if not width >= (1 if function == "LINEAR" else np.finfo(float).tiny):
        raise BadImage(
            f"has a window of width {width:g}; expected {'1 or more' if function == 'LINEAR' else 'more'}"
        )
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    elif function != "LINEAR_EXACT":
        raise BadImage(
            f"has the VOI LUT function {function!r}; expected LINEAR, LINEAR_EXACT or SIGMOID"
        )
    sloped = (values - center) / (width or 1) + 0.5
    return np.where(
        values <= center - width / 2, 0, np.where(values > center + width / 2, 1, sloped)
    )
