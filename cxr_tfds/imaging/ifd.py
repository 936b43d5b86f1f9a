"""Checks the directory (IFD) of a TIFF file before a decoder gets it.

An entry of a directory names bytes anywhere in the file, and several may name the same. Pillow
copies them for each entry, so a file of 500 KB could take 6 GB.
Source: TIFF 6.0, section 2, and https://www.awaresystems.be/imaging/tiff/bigtiff.html
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from cxr_tfds.errors import BadImage
from cxr_tfds.limits import check_memory

_MAX_ENTRIES = 1000  # of a directory; writers use less than 100
_MAX_VALUES = 200_000  # of an entry that is not bytes or text; Pillow unpacks them to a tuple
_MAX_BYTES = 1 << 24  # of all entries
_MAX_DEPTH = 3  # of directories in directories
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
               16: 8, 17: 8, 18: 8}  # fmt: skip
_BYTES_AND_TEXT = (1, 2, 6, 7)
_COMPRESSION, _TILE_WIDTH, _TILE_LENGTH = 259, 322, 323
_DIRECTORIES = (34665, 34853, 40965)  # EXIF, GPS and interoperability, which Pillow reads, too
_COMPRESSIONS = {1: "none", 5: "LZW", 8: "deflate", 32946: "deflate", 32773: "PackBits", 7: "JPEG"}
_JPEG = 7
_TILE_BYTES_PER_PIXEL = 12  # six samples of 16 bits, the most that Pillow decodes
_PROGRESSIVE = b"\xff\xc2\0"  # marker of a progressive JPEG frame, and the upper byte of its length


class _Layout(NamedTuple):
    order: str  # byte order, as `struct` names it
    counter: str  # of entries
    entry: str  # tag, type, number of values
    offset: str

    def read(self, kind: str, data: bytes, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + kind, data, at)


def check_tiff(data: bytes) -> None:
    """Refuses a TIFF of several pages, with a directory that expands, or in a rare compression.

    Raises:
      BadImage: The file is refused, or a tile of it needs more memory than allowed.
      struct.error: The directory is incomplete.
    """
    order = "<" if data.startswith(b"II") else ">"
    if 43 in data[2:4]:
        if order == ">":
            raise BadImage("a big-endian BigTIFF; save it as TIFF")
        layout, start = _Layout(order, "Q", "HHQ", "Q"), 8
    else:
        layout, start = _Layout(order, "H", "HHI", "I"), 4
    (first,) = layout.read(layout.offset, data, start)
    entries, following = _read_directory(data, layout, first, [_MAX_BYTES])
    if following not in (0, first):  # decoders take its own position for the end
        raise BadImage("more than one frame; expected one image")
    tile = {_TILE_WIDTH: 1, _TILE_LENGTH: 1}
    for tag, value in entries:
        if tag in tile:
            tile[tag] = max(tile[tag], value)
        elif tag == _COMPRESSION and value not in _COMPRESSIONS:
            raise BadImage(
                f"TIFF compression {value}; expected none, LZW, deflate, PackBits or JPEG "
                f"({', '.join(map(str, sorted(_COMPRESSIONS)))})"
            )
        elif tag == _COMPRESSION and value == _JPEG and _PROGRESSIVE in data:
            raise BadImage("progressive JPEG in a TIFF; save it with another compression")
    check_memory(tile[_TILE_WIDTH], tile[_TILE_LENGTH], _TILE_BYTES_PER_PIXEL)


def _read_directory(
    data: bytes, layout: _Layout, at: int, budget: list[int], depth: int = 1
) -> tuple[list[tuple[int, int]], int]:
    """Returns tag and value of the single integers of a directory, and where the next one is.

    Args:
      data: The file.
      layout: How its numbers are stored.
      at: Position of the directory.
      budget: One number, the bytes that the values of further directories may have.
      depth: Of this directory in others.
    """
    (count,) = layout.read(layout.counter, data, at)
    if count > _MAX_ENTRIES:
        raise BadImage(
            f"a TIFF directory of {count:,} entries; expected at most {_MAX_ENTRIES:,}. Save the "
            "image again"
        )
    at += struct.calcsize(layout.counter)
    found: list[tuple[int, int]] = []
    entry_bytes = struct.calcsize(layout.order + layout.entry)
    inline_bytes = struct.calcsize(layout.offset)
    for _ in range(count):
        tag, kind, values = layout.read(layout.entry, data, at)
        position = at + entry_bytes
        at = position + inline_bytes
        size = values * _TYPE_BYTES.get(kind, 0)
        if kind not in _BYTES_AND_TEXT and values > _MAX_VALUES:
            raise BadImage(
                f"a TIFF entry of {values:,} values; expected at most {_MAX_VALUES:,}. Save the "
                "image again, in larger strips"
            )
        if size > inline_bytes:
            (position,) = layout.read(layout.offset, data, position)
            budget[0] -= max(0, min(size, len(data) - position))
        if budget[0] < 0:
            raise BadImage(
                f"more than {_MAX_BYTES:,} bytes of TIFF metadata. Save the image without them"
            )
        integer = {1: "B", 2: "H", 4: "I", 8: "Q"}.get(_TYPE_BYTES.get(kind, 0))
        if values != 1 or integer is None or position + size > len(data):
            continue
        (value,) = layout.read(integer, data, position)
        found.append((tag, value))
        if tag in _DIRECTORIES and depth < _MAX_DEPTH and 0 < value < len(data):
            _read_directory(data, layout, value, budget, depth + 1)
    (following,) = layout.read(layout.offset, data, at)
    return found, following
