"""Opens DICOM files: recognises, checks and decodes them.

Only the elements listed below are read: no name, date or number of a patient. pydicom is imported
when a DICOM file is read.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_tfds.errors import BadImage
from cxr_tfds.imaging.dicom_codecs import decode_frame, reads_syntax

if TYPE_CHECKING:
    from pydicom import Dataset

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
    "NumberOfFrames", "PhotometricInterpretation", "PixelData", "PixelPaddingValue",
    "PixelRepresentation", "PlanarConfiguration", "RescaleIntercept", "RescaleSlope", "Rows",
    "SamplesPerPixel", "VOILUTFunction", "VOILUTSequence", "WindowCenter", "WindowWidth",
]  # fmt: skip
GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
# Decoders of lossy JPEG may differ by a grey level, so only Pillow is used, which every device has.
_PILLOW_ONLY = (
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91",
)  # fmt: skip
_PLUGINS = ("pydicom", "pillow", "pylibjpeg", "gdcm", "pyjpegls")
_JP2_SIGNATURE = b"\0\0\0\x0cjP  "
_BOX_HEADER_BYTES = 8
_MAX_BITS = 16
# Messages of pydicom and what they mean.
_REASONS = (
    ("less than expected", "less pixel data than expected; the file may be truncated"),
    ("exceeds limit|decompression bomb", "the compressed pixel data are corrupt or too large"),
)
_NEEDED = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "SamplesPerPixel", "PixelRepresentation",
    "PhotometricInterpretation",
)  # fmt: skip


def is_dicom(data: bytes) -> bool:
    """Returns whether a file is DICOM by its contents, with or without preamble (PS3.10, 7.1)."""
    magic = data[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4]
    return magic == b"DICM" or _NO_PREAMBLE.match(data) is not None


def check_pixel_count(width: int, height: int, limit: int) -> None:
    """Raises BadImage for an image without pixels or with more than `limit`."""
    if not 0 < width * height <= limit:
        raise BadImage(f"{width} x {height} pixels; expected at least 1 and at most {limit:,}")


def read_elements(data: bytes) -> Dataset:
    """Returns the elements of a file that decide its pixels."""
    try:
        from pydicom import dcmread
    except ModuleNotFoundError:
        raise BadImage(f"DICOM, which needs pydicom: {_INSTALL}") from None
    if _DEFLATED in data[:_HEADER_BYTES]:  # pydicom would decompress it to any size
        raise BadImage(
            "DICOM in Deflated Explicit VR Little Endian; save it in another transfer syntax"
        )
    try:
        return dcmread(io.BytesIO(data), force=True, specific_tags=_ELEMENTS)
    except Exception as err:
        raise explain(err) from err


def open_dicom(data: bytes, max_pixels: int) -> tuple[Dataset, np.ndarray, str]:
    """Returns the elements of a file, its stored values, and their photometric interpretation."""
    dataset = read_elements(data)
    try:
        _check(dataset, max_pixels)
        return dataset, *_stored_values(dataset)
    except BadImage:
        raise
    except Exception as err:  # pydicom and its decoders raise many kinds
        raise explain(err) from err


def explain(err: Exception) -> BadImage:
    """Returns an error without the texts of Python or of decoders, which help nobody."""
    text = " ".join(str(err).split())
    for pattern, reason in _REASONS:
        if re.search(pattern, text):
            return BadImage(f"cannot be decoded as DICOM: {reason}")
    return BadImage("cannot be decoded as DICOM: corrupt pixel data or header")


def _check(dataset: Dataset, max_pixels: int) -> None:
    if "PixelData" not in dataset:
        floating = "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset
        raise BadImage(f"DICOM {'with floating-point' if floating else 'without'} pixel data")
    # Corrupt numbers raise ValueError here; `explain` names the reason.
    if missing := [name for name in _NEEDED if dataset.get(name) in (None, "")]:
        raise BadImage(f"DICOM without {', '.join(missing)}, which every image needs")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        raise BadImage(f"{frames} frames; expected one image")
    check_pixel_count(dataset.Columns, dataset.Rows, max_pixels)
    bits = int(dataset.BitsStored)
    if not 1 <= bits <= _MAX_BITS:
        raise BadImage(f"{bits} bits per pixel; expected at most {_MAX_BITS}")
    if dataset.get("HighBit", bits - 1) != bits - 1:
        raise BadImage(f"{bits} bits below bit {dataset.HighBit}; expected the lowest {bits} bits")
    if (photometric := dataset.PhotometricInterpretation) not in (known := GREY + _COLOUR):
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
    bits = int(dataset.BitsStored)
    if reads_syntax(syntax, bits):
        values = _decode_with_imagecodecs(dataset, syntax)
        if values is not None:
            return values, str(dataset.PhotometricInterpretation)
    by_pillow = syntax in _PILLOW_ONLY and not reads_syntax(syntax, bits)
    usable = set(decoder.available_plugins) & ({"pillow"} if by_pillow else set(_PLUGINS))
    if reads_syntax(syntax, bits) and syntax == uid.JPEGExtended12Bit:
        usable &= {"pylibjpeg"}  # the others read 8 bits only
    if syntax.is_encapsulated and not usable:
        raise BadImage(
            f"DICOM in {syntax.name} with {bits} bits, for which no decoder is installed; install "
            f"the decoders with {_INSTALL}"
        )
    if syntax.is_encapsulated:
        _check_boxes(dataset.PixelData)
    plugin = "pillow" if by_pillow else ""
    # pydicom 3.0.2 annotates this option as a dict of options.
    options: Any = {"allow_excess_frames": False}
    values, properties = decoder.as_array(dataset, raw=True, decoding_plugin=plugin, **options)
    return values, str(properties["photometric_interpretation"])


def _decode_with_imagecodecs(dataset: Dataset, syntax: str) -> np.ndarray | None:
    from pydicom.encaps import generate_frames

    samples = int(dataset.SamplesPerPixel)
    shape = (int(dataset.Rows), int(dataset.Columns), *([samples] if samples > 1 else []))
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    values = decode_frame(frame, syntax, shape)
    if values is None or not int(dataset.PixelRepresentation):
        return values
    sign = 1 << int(dataset.BitsStored) - 1  # JPEG itself knows no negative values
    return (values.astype(np.int32) ^ sign) - sign


def _check_boxes(encapsulated: bytes) -> None:
    """Refuses a JP2 box of 0 bytes before the codestream: pydicom 3.0.2 would loop forever."""
    at = encapsulated.find(_JP2_SIGNATURE)
    while 0 <= at < len(encapsulated) and encapsulated[at + 4 : at + 8] != b"jp2c":
        length = int.from_bytes(encapsulated[at : at + 4], "big")
        if length < _BOX_HEADER_BYTES:
            raise BadImage(f"JPEG 2000 box of {length} bytes; expected {_BOX_HEADER_BYTES} or more")
        at += length
