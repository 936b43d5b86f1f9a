"""Checks a JPEG 2000 codestream before a decoder gets it.

OpenJPEG allocates for each tile, precinct, code block and layer that the header declares, and a
header of 100 bytes can declare billions. Source: ITU-T T.800, annexes A and I.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from cxr_tfds.errors import BadImage
from cxr_tfds.limits import check_memory

_CODESTREAM = b"\xff\x4f\xff\x51"
_MAX_BOXES = 1000
_MAX_BYTES = 1 << 24  # before the codestream
_MAX_TILES, _MAX_TILE_PARTS = 4096, 65_536
_MAX_COMPONENTS = 4
_MAX_SAMPLES = 50_000_000  # OpenJPEG decodes 3 to 8 million a second
_MAX_PACKETS = 1_000_000  # each has a precinct of a resolution of a component, in a layer
_MAX_MARKERS = 1000
# What OpenJPEG 2.5 allocates: per sample, with the copy that Pillow makes; per code block, with ten
# segments and two tag trees; per precinct.
_SAMPLE_BYTES, _BLOCK_BYTES, _PRECINCT_BYTES = 8, 700, 400
_COD, _COC, _SOT, _SOD = 0xFF52, 0xFF53, 0xFF90, 0xFF93
_REFUSED = {0xFF5F: "POC", 0xFF60: "PPM", 0xFF61: "PPT"}
_MAX_LEVELS = 32
_CORRUPT = "a corrupt JPEG 2000 header"
_MAX_STYLES = 100


class _Size(NamedTuple):
    width: int
    height: int
    tile_width: int
    tile_height: int
    tiles: int
    components: int


class _Styles(NamedTuple):
    """Coding styles of the image, its tiles and components."""

    layers: set[int]  # numbers of layers
    unique: set[bytes]  # what follows the flags: levels, code blocks, sizes of precincts


def find_codestream(data: bytes) -> int:
    """Returns where the codestream of a JP2 file begins, or 0 if it is one.

    Raises:
      BadImage: There is none within the first 16 MiB, or the file has a palette.
    """
    if data.startswith(_CODESTREAM):
        return 0
    for kind, start, end in _list_boxes(data, 0, min(len(data), _MAX_BYTES)):
        if kind == b"jp2c":
            return start
        if kind == b"jp2h" and b"pclr" in (inner[0] for inner in _list_boxes(data, start, end)):
            raise BadImage("a JPEG 2000 with a palette; save the image as greyscale")
    raise BadImage(f"a JPEG 2000 file without an image in its first {_MAX_BYTES:,} bytes")


def _list_boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields kind, begin and end of boxes: a decoder would not end at an invalid length."""
    for _ in range(_MAX_BOXES):
        if at + 8 > end:
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        header = 16 if length == 1 else 8
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        if length == 0 and kind == b"jp2c":  # up to the end of the file
            length = max(header, end - at)
        if length < header:
            raise BadImage(f"JPEG 2000 box of {length} bytes; expected {header} or more")
        yield kind, at + header, min(at + length, end)
        at += length
    raise BadImage(f"a JPEG 2000 of more than {_MAX_BOXES:,} boxes; save the image again")


def check_codestream(data: bytes, start: int = 0) -> tuple[int, ...]:
    """Returns the shape (H, W), or (H, W, C), of a codestream that can be decoded within limits.

    Raises:
      BadImage: The codestream uses rare features, or needs more memory than allowed.
      struct.error, IndexError: It is incomplete.
    """
    if data[start : start + 4] != _CODESTREAM:
        raise BadImage(_CORRUPT)
    size, styles = _read_size(data, start + 4), _Styles(set(), set())
    at = _read_header(data, start + 2, _SOT, styles)
    _read_tile_parts(data, at, styles)
    for style in styles.unique:
        _check_style(style, max(styles.layers, default=1), size)
    shape = size.height, size.width
    return shape if size.components == 1 else (*shape, size.components)


def _read_size(data: bytes, at: int) -> _Size:
    """Reads the marker segment SIZ."""
    _, _, right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = (
        struct.unpack_from(">HHIIIIIIIIH", data, at)
    )
    if not 1 <= components <= _MAX_COMPONENTS:
        raise BadImage(f"{components} components; expected at most {_MAX_COMPONENTS}")
    width, height = right - left, bottom - top
    if (samples := width * height * components) > _MAX_SAMPLES:
        raise BadImage(
            f"{samples:,} samples of JPEG 2000, which decodes slowly; expected at most "
            f"{_MAX_SAMPLES:,}. Save the image as PNG or TIFF"
        )
    if min(width, height, tile_width, tile_height, right - tile_left, bottom - tile_top) < 1:
        raise BadImage(_CORRUPT)
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    if tiles > _MAX_TILES:
        raise BadImage(f"{tiles:,} JPEG 2000 tiles; expected at most {_MAX_TILES:,}")
    return _Size(width, height, min(tile_width, right), min(tile_height, bottom), tiles, components)


def _read_header(data: bytes, at: int, end: int, styles: _Styles) -> int:
    """Adds the coding styles of a header, and returns the position of the marker that ends it."""
    for _ in range(_MAX_MARKERS):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == end:
            return at
        if marker in _REFUSED:
            raise BadImage(
                f"a JPEG 2000 with the marker {_REFUSED[marker]}, which no radiograph needs; save "
                "the image again"
            )
        if marker in (_COD, _COC):
            flags, style = (at + 4, at + 9) if marker == _COD else (at + 5, at + 6)
            if marker == _COD:
                styles.layers.update(struct.unpack_from(">H", data, at + 6))
            # Without sizes of precincts there is one for a resolution.
            sizes = data[style + 5 : at + 2 + length] if data[flags] & 1 else b""
            styles.unique.add(data[style : style + 5] + sizes)
        at += 2 + length
    raise BadImage(f"a JPEG 2000 of more than {_MAX_MARKERS:,} markers; save the image again")


def _check_style(style: bytes, layers: int, size: _Size) -> None:
    """Checks what the decoder allocates if the complete image has a coding style."""
    levels, block_width, block_height, precinct_sizes = (
        style[0],
        style[1] + 2,
        style[2] + 2,
        style[5:],
    )
    if levels > _MAX_LEVELS or max(block_width, block_height) > 10:
        raise BadImage(_CORRUPT)
    precincts = blocks = 0
    for level in range(levels + 1):
        exponents = precinct_sizes[level] if precinct_sizes else 0xFF
        scale = levels - level
        sides = -(-size.tile_width // 2**scale), -(-size.tile_height // 2**scale)
        precinct = exponents & 15, exponents >> 4
        # A tile that does not begin at a border of precincts or code blocks touches one more.
        precincts += _count(sides[0], precinct[0]) * _count(sides[1], precinct[1])
        shrink = 1 if level else 0  # a resolution above the lowest has three bands of half its size
        block = [
            max(0, min(x, y - shrink))
            for x, y in zip((block_width, block_height), precinct, strict=True)
        ]
        bands = 3 if level else 1
        halves = [-(-side // 2**shrink) for side in sides]
        blocks += bands * _count(halves[0], block[0]) * _count(halves[1], block[1])
    packets = size.tiles * size.components * precincts * layers
    if packets > _MAX_PACKETS:
        raise BadImage(f"{packets:,} JPEG 2000 packets; expected at most {_MAX_PACKETS:,}")
    parts = size.components * (blocks * _BLOCK_BYTES + 3 * precincts * _PRECINCT_BYTES)
    per_pixel = size.components * _SAMPLE_BYTES + 4
    check_memory(size.width, size.height, per_pixel + parts / (size.width * size.height))
    check_memory(size.tile_width, size.tile_height, per_pixel)


def _count(side: int, exponent: int) -> int:
    return (side >> exponent) + 2


def _read_tile_parts(data: bytes, at: int, styles: _Styles) -> None:
    for _ in range(_MAX_TILE_PARTS):
        marker, _, _, length = struct.unpack_from(">HHHI", data, at)
        if marker != _SOT:
            raise BadImage(_CORRUPT)
        _read_header(data, at + 12, _SOD, styles)
        if len(styles.unique) > _MAX_STYLES:
            raise BadImage(f"a JPEG 2000 of more than {_MAX_STYLES} coding styles")
        if not length:  # the last tile
            return
        at += length
        if at + 12 > len(data) or data[at : at + 2] == b"\xff\xd9":  # the end, or truncated
            return
    raise BadImage(f"a JPEG 2000 of more than {_MAX_TILE_PARTS:,} tile parts")
