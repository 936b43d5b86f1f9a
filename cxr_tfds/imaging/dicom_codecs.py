"""Decodes the JPEG kinds in DICOM that Pillow does not read: Lossless, Extended with 12 bits, LS.

imagecodecs (BSD) provides the decoders. GDCM ends the process on corrupt JPEG-LS, and
pylibjpeg-libjpeg is under the GPL.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from cxr_tfds.errors import BadImage
from cxr_tfds.imaging.jpeg import check_jpeg
from cxr_tfds.imaging.jpeg2000 import check_codestream, find_codestream
from cxr_tfds.limits import check_memory

_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_EXTENDED = "1.2.840.10008.1.2.4.51"
_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_END_OF_IMAGE = b"\xff\xd9"
_MAX_RLE_PADDING = 4096  # bytes
_MAX_RLE_EXPANSION = 64  # two bytes become at most 128


def reads_syntax(syntax: str, bits: int) -> bool:
    """Returns whether `decode_frame` is meant for a transfer syntax with this many bits stored."""
    return syntax in (*_LOSSLESS, *_LS) or (syntax == _EXTENDED and bits > 8)


def check_frame(frame: bytes, syntax: str, shape: tuple[int, ...]) -> None:
    """Refuses a JPEG, JPEG-LS or JPEG 2000 frame that a decoder could not decode within the limits.

    Args:
      frame: The compressed frame in a DICOM file.
      syntax: Its transfer syntax.
      shape: Expected (H, W) or (H, W, 3).

    Raises:
      BadImage: The frame is corrupt, has another shape, or needs more memory than allowed.
    """
    if syntax in _JPEG_2000:
        found: tuple[int, ...] | None = check_codestream(frame, find_codestream(frame))
    else:
        found = check_jpeg(frame).shape
    # With other dimensions, a corrupt header makes a decoder work for minutes.
    if found != shape:
        raise BadImage(
            f"compressed pixel data of shape {found or 'unknown'}, but the DICOM header announces "
            f"{shape}; the file is corrupt"
        )


def decode_rle(frame: bytes, sample_bytes: int, shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns the samples of an RLE frame, or None if imagecodecs is not installed.

    pydicom decodes it then, which is slow and does not bound the memory.

    Args:
      frame: The compressed frame in a DICOM file: a segment for each byte of each sample, the most
        significant first. Source: PS3.5, annex G.
      sample_bytes: Bytes allocated for a sample.
      shape: Expected (H, W) or (H, W, 3).

    Raises:
      BadImage: The frame is corrupt, or could expand to more memory than allowed.
    """
    try:
        from imagecodecs import packbits_decode
    except ModuleNotFoundError:
        check_memory(_MAX_RLE_EXPANSION, len(frame), 1)
        return None
    pixels, samples = math.prod(shape[:2]), math.prod(shape[2:])
    try:
        count, *offsets = struct.unpack_from("<16L", frame)
        if count != samples * sample_bytes:
            raise BadImage(f"{count} RLE segments; expected {samples * sample_bytes}")
        ends = [*offsets[1:count], len(frame)]
        planes = np.empty((samples, sample_bytes, pixels), np.uint8)
        for number, (start, end) in enumerate(zip(offsets, ends, strict=False)):
            # Some writers add padding. A segment that is larger still is refused.
            plane = packbits_decode(frame[start:end], out=pixels + _MAX_RLE_PADDING)
            planes[divmod(number, sample_bytes)] = np.frombuffer(plane, np.uint8, pixels)
    except BadImage:
        raise
    except Exception as err:  # imagecodecs raises many kinds
        raise BadImage("corrupt compressed pixel data in a DICOM file") from err
    values = np.moveaxis(planes, 1, -1).copy().view(f">u{sample_bytes}")[..., 0]
    return np.moveaxis(values, 0, -1).reshape(shape).astype(f"u{sample_bytes}")


def decode_frame(frame: bytes, syntax: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns the samples of one frame, or None if imagecodecs is not installed.

    Args:
      frame: The JPEG file in a DICOM file.
      syntax: Transfer syntax, one for which `reads_syntax` is true.
      shape: Expected (H, W) or (H, W, 3).

    Raises:
      BadImage: The frame is corrupt or has another shape.
    """
    try:
        import imagecodecs
    except ModuleNotFoundError:
        return None
    check_frame(frame, syntax, shape)
    try:
        if syntax in _LS:
            # Without an end, CharLS 2.4 looks for it in a truncated frame for 17 seconds.
            return np.asarray(imagecodecs.jpegls_decode(frame + _END_OF_IMAGE))
        return np.asarray(imagecodecs.jpeg8_decode(frame))
    except Exception as err:  # imagecodecs raises many kinds
        raise BadImage("corrupt compressed pixel data in a DICOM file") from err
