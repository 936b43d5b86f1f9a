"""Checks the structure of an image file before a decoder gets it.

Decoders allocate and work by what a file declares. Here each format is walked without decoding, at
a cost bounded by the number of its parts, and refused if it has several images, if its metadata
could expand, or if its pixels need more memory than allowed. What depends on the colour mode alone
is checked in `cxr_tfds.imaging.opening`, once Pillow has read the header.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from cxr_tfds.errors import BadImage
from cxr_tfds.imaging.ifd import check_tiff
from cxr_tfds.imaging.jpeg import check_jpeg
from cxr_tfds.imaging.jpeg2000 import check_codestream, find_codestream
from cxr_tfds.limits import check_memory

_MAX_METADATA_BYTES = 1 << 24  # an ICC profile or thumbnail is smaller
_MAX_CHUNKS = 100_000  # of 8 KiB in PNG, as libpng writes them, they hold 800 MB
_MAX_GIF_METADATA_BYTES = 1 << 20  # Pillow joins comments in quadratic time
_MAX_GIF_BLOCKS = 1_000_000  # of up to 255 bytes
_WEBP_BYTES_PER_PIXEL = 28  # two canvases, a frame and four copies, each of 4
_ANIMATION = 2  # flag in VP8X
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_PNM_HEADER_BYTES, _MAX_PNM_COMMENTS = 4096, 100
# Magic number, width, height and, except of black and white images, maximum: each after white
# space, which comments may follow.
_PNM_KINDS = (b"1", b"2", b"3", b"4", b"5", b"6", b"0CMYK", b"f", b"yP", b"yRGBA", b"yCMYK")
_PNM_TOKEN = rb"(?:\s(?:\s|#[^\r\n]*[\r\n])*[^\s#]+)"
_PNM_HEADER = re.compile(rb"P(?:[14]%b{2}|[^14]\w*%b{3})\s" % (_PNM_TOKEN, _PNM_TOKEN))
_SEVERAL = "more than one frame; expected one image"


def check_structure(data: bytes) -> None:
    """Refuses an image file that a decoder could not decode within the limits.

    Files of unknown format pass: no decoder takes them.

    Raises:
      BadImage: The file has several frames, too much metadata, or parts that no radiograph needs;
        or it needs more memory than allowed.
    """
    try:
        for magic, check in _CHECKS:
            if data.startswith(magic):
                check(data)
    except (struct.error, IndexError) as err:
        raise BadImage("unreadable header: the file is incomplete or corrupt") from err


def _check_png(data: bytes) -> None:
    at, metadata = len(_PNG_SIGNATURE), 0
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"acTL":
            raise BadImage(_SEVERAL)
        if kind != b"IDAT":
            metadata += length
        if metadata > _MAX_METADATA_BYTES:
            raise _too_much_metadata(metadata)
        at += length + 12
    raise BadImage(f"a PNG of more than {_MAX_CHUNKS:,} chunks; save the image again")


def _check_gif(data: bytes) -> None:
    at = 13 + _palette_bytes(data[10])
    metadata = frames = 0
    while at < len(data):
        if data[at] == 0x21:  # extension
            end = _skip_blocks(data, at + 2)
            metadata += end - at
        elif data[at] == 0x2C:  # image
            frames += 1
            end = _skip_blocks(data, at + 11 + _palette_bytes(data[at + 9]))
        else:
            break
        if frames > 1:
            raise BadImage(_SEVERAL)
        if metadata > _MAX_GIF_METADATA_BYTES:
            raise _too_much_metadata(metadata, _MAX_GIF_METADATA_BYTES)
        at = end
    if not frames:
        raise BadImage("a GIF without an image")


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _skip_blocks(data: bytes, at: int) -> int:
    """Returns the position behind a list of blocks, each after its length, that ends with 0."""
    for _ in range(_MAX_GIF_BLOCKS):
        if at >= len(data) or not data[at]:
            return at + 1
        at += data[at] + 1
    raise BadImage(f"a GIF of more than {_MAX_GIF_BLOCKS:,} blocks; save the image as PNG")


def _check_webp(data: bytes) -> None:
    if data[8:12] != b"WEBP":
        return
    kind = data[12:16]
    if kind == b"VP8X":
        if data[20] & _ANIMATION:
            raise BadImage(_SEVERAL)
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    check_memory(width, height, _WEBP_BYTES_PER_PIXEL)


def _check_pnm(data: bytes) -> None:
    # Pillow reads a header byte by byte, and removes each comment of a text from all of the text.
    is_text = data[1:2] in b"123"
    if not _PNM_HEADER.match(data[:_MAX_PNM_HEADER_BYTES]):
        raise BadImage(f"a PNM header of more than {_MAX_PNM_HEADER_BYTES:,} bytes, or corrupt")
    if is_text and (comments := data.count(b"#")) > _MAX_PNM_COMMENTS:
        raise BadImage(
            f"a PNM with {comments:,} comments; expected at most {_MAX_PNM_COMMENTS}. Save the "
            "image as PNG"
        )


def _check_jpeg2000(data: bytes) -> None:
    check_codestream(data, find_codestream(data))


def _too_much_metadata(size: int, limit: int = _MAX_METADATA_BYTES) -> BadImage:
    """Returns the error for a file with more metadata than allowed."""
    return BadImage(
        f"{size:,} bytes of metadata; expected at most {limit:,}. Save the image without them"
    )


_CHECKS: tuple[tuple[bytes, Callable[[bytes], object]], ...] = (
    (_PNG_SIGNATURE, _check_png),
    (b"\xff\xd8", check_jpeg),
    (b"GIF8", _check_gif),
    (b"RIFF", _check_webp),
    (b"II", check_tiff),
    (b"MM", check_tiff),
    (b"\0\0\0\x0cjP  ", _check_jpeg2000),
    (b"\xff\x4f\xff\x51", _check_jpeg2000),
    *((b"P" + kind, _check_pnm) for kind in _PNM_KINDS),
)
