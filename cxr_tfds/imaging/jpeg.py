"""JPEG: quantization tables and the quality they correspond to, and a check before decoding."""

from __future__ import annotations

import functools
import re
import struct
from typing import NamedTuple

from cxr_tfds.errors import BadImage
from cxr_tfds.limits import check_memory

# Luminance table that libjpeg scales by quality, row by row; rows are vertical frequencies.
# Source: ITU-T T.81, table K.1.
# fmt: off
STANDARD_TABLE = (
    16, 11, 10, 16, 24, 40, 51, 61,
    12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77,
    24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)
# fmt: on
_CLIPPED = 255  # largest value of a baseline table; the value before clipping is unknown


@functools.lru_cache  # a source has few tables
def jpeg_quality(table: tuple[int, ...]) -> int:
    """Returns the libjpeg quality, 1 to 100, nearest to a luminance table (64 values, by row)."""
    pairs = [pair for pair in zip(table, STANDARD_TABLE, strict=True) if pair[0] < _CLIPPED]
    if not pairs:
        return 1
    percent = 100 * sum(value for value, _ in pairs) / sum(standard for _, standard in pairs)
    quality = (200 - percent) / 2 if percent <= 100 else 5000 / percent
    return min(100, max(1, round(quality)))


# Markers: ITU-T T.81, table B.1, and T.87, C.1.1 (SOF55).
_MARKER = re.compile(rb"\xff[^\0\xff]")  # further 0xFF before it are fill bytes
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_SINGLE_PASS = (0xC0, 0xC1, 0xC9, 0xF7)  # frames whose scan contains all of its components
_WITHOUT_LENGTH = frozenset({0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)} - {0xF7})
_START_OF_SCAN, _APP1 = 0xDA, 0xE1
_MAX_SEGMENTS = 4096  # before the pixels
_MAX_BYTES = 1 << 24  # of these segments
_MAX_PADDING = 1 << 16  # between them; Pillow skips it byte by byte
MAX_EXIF_BYTES = 1 << 16  # of one segment; Pillow joins several, and copies what overlaps
_MAX_SCANS = 32  # encoders write up to 15; each passes over all pixels
_COEFFICIENT_BYTES = 2


class JpegHeader(NamedTuple):
    """What the markers before the pixels declare."""

    shape: tuple[int, ...] | None  # (H, W) or (H, W, C); None without a frame header
    frame: int = 0  # marker of the frame header


def check_jpeg(data: bytes) -> JpegHeader:
    """Returns the header of a JPEG file, or of a frame in DICOM, that can be decoded within limits.

    Raises:
      BadImage: It has too many segments or scans, or its coefficients need more memory than
        allowed.
    """
    header, at, padding, exif = JpegHeader(None), 2, 0, 0
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None or found.end() + 2 > len(data):
            return header
        marker, end = data[found.end() - 1], found.end()
        padding += found.start() - at
        length = 0
        if marker not in _WITHOUT_LENGTH:
            length = max(2, struct.unpack_from(">H", data, end)[0])
        if marker in _FRAMES and end + 8 <= len(data):
            height, width, channels = struct.unpack_from(">HHB", data, end + 3)
            shape = (height, width) if channels == 1 else (height, width, channels)
            header = JpegHeader(shape, marker)
        elif marker == _START_OF_SCAN:
            _check_scans(data, end, header)
            return header
        elif marker == _APP1 and data.startswith(b"Exif\0\0", end + 2):
            exif += length
        at = end + length
        if padding > _MAX_PADDING or exif > MAX_EXIF_BYTES or at > _MAX_BYTES:
            break
    raise BadImage(
        f"a JPEG with too much metadata; expected at most {_MAX_SEGMENTS:,} segments and "
        f"{_MAX_BYTES:,} bytes, with {MAX_EXIF_BYTES:,} bytes of EXIF. Save the image without them"
    )


def _check_scans(data: bytes, at: int, header: JpegHeader) -> None:
    """Checks a JPEG whose first scan has its length at `at`."""
    if header.shape is None:
        return
    height, width, *more = header.shape
    components = more[0] if more else 1
    if header.frame in _SINGLE_PASS and data[at + 2 : at + 3] == bytes([components]):
        return  # decoded row by row
    if (scans := 1 + data.count(b"\xff\xda", at)) > _MAX_SCANS:
        raise BadImage(
            f"a JPEG of {scans:,} scans; expected at most {_MAX_SCANS}. Save the image again"
        )
    check_memory(width, height, _COEFFICIENT_BYTES * components + 4)
