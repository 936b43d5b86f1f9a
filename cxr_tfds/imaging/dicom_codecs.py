"""Decodes the JPEG kinds in DICOM that Pillow does not read: Lossless, Extended with 12 bits, LS.

imagecodecs (BSD) provides the decoders. GDCM ends the process on corrupt JPEG-LS, and
pylibjpeg-libjpeg is under the GPL.
"""

from __future__ import annotations

import struct

import numpy as np

from cxr_tfds.errors import BadImage

_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_EXTENDED = "1.2.840.10008.1.2.4.51"
_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"
# Markers of frame headers: ITU-T T.81, table B.1, and T.87, C.1.1 (SOF55).
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})


def reads_syntax(syntax: str, bits: int) -> bool:
    """Returns whether `decode_frame` is meant for a transfer syntax with this many bits stored."""
    return syntax in (*_LOSSLESS, *_LS) or (syntax == _EXTENDED and bits > 8)


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
    # With other dimensions, a corrupt header makes a decoder work for minutes.
    if (found := _read_shape(frame)) != shape:
        raise BadImage(
            f"compressed pixel data of shape {found or 'unknown'}, but the DICOM header announces "
            f"{shape}; the file is corrupt"
        )
    try:
        if syntax in _LS:
            # Without an end, CharLS 2.4 looks for it in a truncated frame for 17 seconds.
            return np.asarray(imagecodecs.jpegls_decode(frame + _END_OF_IMAGE))
        return np.asarray(imagecodecs.jpeg8_decode(frame))
    except (imagecodecs.JpeglsError, imagecodecs.Jpeg8Error, ValueError, MemoryError) as err:
        raise BadImage("corrupt compressed pixel data in a DICOM file") from err


def _read_shape(jpeg: bytes) -> tuple[int, ...] | None:
    """Returns (H, W) or (H, W, C) of a JPEG's first frame header."""
    at = 2
    while at + 10 <= len(jpeg) and jpeg[at] == 0xFF:
        marker, length = jpeg[at + 1], struct.unpack_from(">H", jpeg, at + 2)[0]
        if marker in _FRAMES:
            height, width, channels = struct.unpack_from(">HHB", jpeg, at + 5)
            return (height, width) if channels == 1 else (height, width, channels)
        if marker == _START_OF_SCAN:
            return None
        at += 2 + length
    return None
