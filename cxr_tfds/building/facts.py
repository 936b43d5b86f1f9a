"""What a source file tells beside its picture: gathered while it is read once, checked when all are read."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

from cxr_tfds.pixels import Radiograph

# The luminance table that libjpeg scales by quality, row by row, which is vertical frequency: ITU-T T.81, table K.1.
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
_CLIPPED = 255  # the largest value of a baseline table: it tells no scale


class Facts(NamedTuple):
    """Of one source file; equal for files of equal bytes, and for others as good as never."""

    checksum: int  # 64 bits, see `checksum`
    size: int  # bytes
    height: int  # pixels, upright
    width: int
    form: str  # JPEG, PNG, ...
    mode: str  # L, RGB, ..., as Pillow names them
    quality: int | None  # of a JPEG, 1 to 100


def facts_of(data: bytes, decoded: Radiograph) -> Facts:
    """The facts of a file's bytes and of what was decoded from them."""
    quality = jpeg_quality(decoded.quantization) if len(decoded.quantization) else None
    return Facts(checksum(data), len(data), decoded.height, decoded.width, decoded.form, decoded.mode, quality)


def checksum(data: bytes) -> int:
    """64 bits: the CRC-32 of either half of a file.

    It finds copies and guards against nobody; SHA-256 takes twice as long with the processor's help, 0.11 ms of
    the 3 ms of an image of 200 KB (x86-64, 2026-11), and several times as long without.
    """
    view, half = memoryview(data), len(data) // 2
    return zlib.crc32(view[:half]) << 32 | zlib.crc32(view[half:])


def jpeg_quality(table: Sequence[int]) -> int:
    """The quality, 1 to 100, at which libjpeg would write a luminance table nearest to `table`, 64 values.

    The inverse of how libjpeg scales its standard table; of another encoder's table the nearest.

    Args:
      table: row by row, as Pillow gives it.
    """
    pairs = [(value, standard) for value, standard in zip(table, STANDARD_TABLE, strict=True) if value < _CLIPPED]
    if not pairs:
        return 1
    scale = 100 * sum(value for value, _ in pairs) / sum(standard for _, standard in pairs)  # percent
    quality = (200 - scale) / 2 if scale <= 100 else 5000 / scale
    return min(100, max(1, round(quality)))
