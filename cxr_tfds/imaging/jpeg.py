"""JPEG quantization tables and the quality they correspond to."""

from __future__ import annotations

import functools

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
