"""Opens DICOM files: recognises, checks and decodes them.

Only the elements listed below are read: no name, date or number of a patient. pydicom is imported
when a DICOM file is read.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_tfds.errors import BadImage
from cxr_tfds.imaging.dicom_codecs import check_frame, decode_frame, decode_rle, reads_syntax
from cxr_tfds.limits import reserve_memory

if TYPE_CHECKING:
    from pydicom import Dataset

_INSTALL = 'pip install "cxr-tfds[dicom]"'
_PREAMBLE_BYTES = 128
# Without a preamble, a file begins with an element of group 2 or 8, explicit (VR in capitals) or
# implicit.
_NO_PREAMBLE = re.compile(rb"[\x02\x08]\0..(?:[A-Z]{2}|..\0\0)", re.DOTALL)
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_RLE = "1.2.840.10008.1.2.5"
_PIXEL_GROUP = 0x7FE0
_MAX_READS = 200_000  # of pydicom, which needs two or three for an element and one for a fragment
_MAX_ELEMENT_BYTES = 1 << 19  # except of pixels; a look-up table has up to 128 KiB
_MAX_BYTES_ALLOCATED = 4  # for a sample
_COPIES = 5  # of the pixels, at the peak: the file, its elements, and the stages of display
_OTHER_BYTES_PER_PIXEL = 10
_ELEMENTS = [
    "BitsAllocated", "BitsStored", "Columns", "DoubleFloatPixelData",
    "FloatPixelData", "HighBit", "ModalityLUTSequence",
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


class _CountingReader(io.BytesIO):
    """A file of a header with few elements. Each takes memory and time, and needs 8 bytes only."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MAX_READS:
            raise BadImage(_TOO_MANY)
        return super().read(size)


_TOO_MANY = "DICOM with too many elements, or too many fragments of pixel data; save it again"


def read_elements(data: bytes) -> Dataset:
    """Returns the elements of a file that decide its pixels.

    Raises:
      BadImage: pydicom is not installed, or the header is corrupt or too large.
    """
    try:
        from pydicom import dcmread
    except ModuleNotFoundError:
        raise BadImage(f"DICOM, which needs pydicom: {_INSTALL}") from None
    if _DEFLATED in data:  # pydicom would decompress it to any size
        raise BadImage(
            "DICOM in Deflated Explicit VR Little Endian; save it in another transfer syntax"
        )
    reader = _CountingReader(data)
    try:
        dataset = dcmread(reader, force=True, specific_tags=_ELEMENTS)
        # `get_item` parses an element whose value is read later.
        sizes = {tag: _byte_count(dataset.get_item(tag)) for tag in dataset.keys()}  # noqa: SIM118
    except Exception as err:  # pydicom raises many kinds
        raise explain(err) from err
    if reader.reads > _MAX_READS:  # pydicom may have handled the error
        raise BadImage(_TOO_MANY)
    for tag, size in sizes.items():
        if tag.group != _PIXEL_GROUP and size > _MAX_ELEMENT_BYTES:
            raise BadImage(
                f"DICOM element {tag} of {size:,} bytes; expected at most {_MAX_ELEMENT_BYTES:,}"
            )
    return dataset


def _byte_count(element: Any) -> int:
    return len(element.value) if isinstance(element.value, bytes) else 0


@contextlib.contextmanager
def open_dicom(data: bytes) -> Iterator[tuple[Dataset, np.ndarray, str]]:
    """Yields the elements of a file, its stored values, and their photometric interpretation.

    Memory for them and for the stages of display is reserved meanwhile. Errors become BadImage.
    """
    dataset = read_elements(data)
    try:
        bytes_per_pixel = _check(dataset)
        with reserve_memory(int(dataset.Columns), int(dataset.Rows), bytes_per_pixel):
            yield dataset, *_stored_values(dataset)
    except Exception as err:  # pydicom and its decoders raise many kinds
        raise explain(err) from err


def explain(err: Exception) -> BadImage:
    """Returns an error without the texts of Python or of decoders, which help nobody."""
    if isinstance(err, BadImage):
        return err
    text = " ".join(str(err).split())
    for pattern, reason in _REASONS:
        if re.search(pattern, text):
            return BadImage(f"cannot be decoded as DICOM: {reason}")
    return BadImage("cannot be decoded as DICOM: corrupt pixel data or header")


def _check(dataset: Dataset) -> int:
    """Returns the bytes of memory that a pixel needs. Raises BadImage for unsupported files."""
    if "PixelData" not in dataset:
        floating = "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset
        raise BadImage(f"DICOM {'with floating-point' if floating else 'without'} pixel data")
    # Corrupt numbers raise ValueError here; `explain` names the reason.
    if missing := [name for name in _NEEDED if dataset.get(name) in (None, "")]:
        raise BadImage(f"DICOM without {', '.join(missing)}, which every image needs")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        raise BadImage(f"{frames} frames; expected one image")
    allocated = int(dataset.BitsAllocated) // 8
    if allocated > _MAX_BYTES_ALLOCATED or not 1 <= int(dataset.SamplesPerPixel) <= 3:
        raise BadImage(
            f"{dataset.SamplesPerPixel} samples of {dataset.BitsAllocated} bits for each pixel; "
            f"expected 1 or 3 of at most {8 * _MAX_BYTES_ALLOCATED}"
        )
    bits = int(dataset.BitsStored)
    if not 1 <= bits <= _MAX_BITS:
        raise BadImage(f"{bits} bits per pixel; expected at most {_MAX_BITS}")
    if dataset.get("HighBit", bits - 1) != bits - 1:
        raise BadImage(f"{bits} bits below bit {dataset.HighBit}; expected the lowest {bits} bits")
    if (photometric := dataset.PhotometricInterpretation) not in (known := GREY + _COLOUR):
        raise BadImage(f"photometric interpretation {photometric}; expected {', '.join(known)}")
    return _COPIES * int(dataset.SamplesPerPixel) * allocated + _OTHER_BYTES_PER_PIXEL


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
    bits, samples = int(dataset.BitsStored), int(dataset.SamplesPerPixel)
    shape = (int(dataset.Rows), int(dataset.Columns), *([samples] if samples > 1 else []))
    values = None
    if syntax.is_encapsulated:
        values = _decode_with_imagecodecs(dataset, syntax, shape)
    if values is not None:
        return values, str(dataset.PhotometricInterpretation)
    # pydicom itself decodes RLE and uncompressed pixels.
    plugin = "pillow" if syntax in _PILLOW_ONLY and not reads_syntax(syntax, bits) else "pydicom"
    if syntax.is_encapsulated and plugin not in decoder.available_plugins:
        raise BadImage(
            f"DICOM in {syntax.name} with {bits} bits, for which no decoder is installed; install "
            f"the decoders with {_INSTALL}"
        )
    # pydicom 3.0.2 annotates this option as a dict of options.
    options: Any = {"allow_excess_frames": False}
    plugin = plugin if syntax.is_encapsulated else ""
    values, properties = decoder.as_array(dataset, raw=True, decoding_plugin=plugin, **options)
    return values, str(properties["photometric_interpretation"])


def _decode_with_imagecodecs(
    dataset: Dataset, syntax: str, shape: tuple[int, ...]
) -> np.ndarray | None:
    """Returns integers of `shape`, or None if another decoder is meant for the transfer syntax."""
    from pydicom.encaps import generate_frames

    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    bits = int(dataset.BitsStored)
    if syntax == _RLE:
        allocated = int(dataset.BitsAllocated) // 8
        values = decode_rle(frame, allocated, shape)
        is_signed = bool(dataset.PixelRepresentation)
        return values.view(f"i{allocated}") if values is not None and is_signed else values
    if not reads_syntax(syntax, bits):
        check_frame(frame, syntax, shape)
        return None
    values = decode_frame(frame, syntax, shape)
    if values is None or not int(dataset.PixelRepresentation):
        return values
    sign = 1 << bits - 1  # JPEG itself knows no negative values
    return (values.astype(np.int32) ^ sign) - sign
