"""What the JPEG standard says of quantization, for those who look at files and those who imitate them."""

from __future__ import annotations

from collections.abc import Sequence

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


def jpeg_quality(table: Sequence[int]) -> int:
    """The quality, 1 to 100, at which libjpeg would write a luminance table nearest to `table`, 64 values.

    The inverse of how libjpeg scales its standard table; of another encoder's table the nearest.

    Args:
      table: row by row, as Pillow gives it.
    """
    pairs = [
        (value, standard)
        for value, standard in zip(table, STANDARD_TABLE, strict=True)
        if value < _CLIPPED
    ]
    if not pairs:
        return 1
    scale = (
        100 * sum(value for value, _ in pairs) / sum(standard for _, standard in pairs)
    )  # percent
    quality = (200 - scale) / 2 if scale <= 100 else 5000 / scale
    return min(100, max(1, round(quality)))
