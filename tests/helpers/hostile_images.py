"""Small files that declare a lot: they cost memory or time unless a reader refuses them."""

from __future__ import annotations

import struct
import zlib

_SIDE = 9000  # below the limit of 100 million pixels


def run_length_bmp(width: int = 15_000_000, height: int = 6) -> bytes:
    """Returns a BMP whose only run-length code skips 255 lines."""
    palette = bytes(1024)
    data = b"\0\2\xff\xff"
    offset = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    start = struct.pack("<2sIHHI", b"BM", offset + len(data), 0, 0, offset)
    return start + header + palette + data


def empty_webp(side: int = _SIDE) -> bytes:
    """Returns a lossless WebP of one colour, whose pixels need no bits."""
    bits = 0x2F | (side - 1) << 8 | (side - 1) << 22 | 1 << 36
    place = 8 + 14 + 14 + 1 + 3 + 3  # after the version, and no transform, cache and groups
    for _ in range(5):  # codes of one symbol
        bits |= 1 << place
        place += 4
    chunk = bits.to_bytes((place + 7) // 8, "little")
    chunk += b"\0" * (len(chunk) % 2)
    return (
        b"RIFF"
        + struct.pack("<I", 12 + len(chunk))
        + b"WEBPVP8L"
        + (struct.pack("<I", len(chunk)) + chunk)
    )


def deep_png(side: int = _SIDE, kind: int = 4, bits: int = 16, frames: int = 0) -> bytes:
    """Returns a black PNG of colour type `kind`; animated if it has frames."""
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    row = bytes(1 + side * samples * bits // 8)
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, bits, kind, 0, 0, 0))]
    chunks += [(b"acTL", struct.pack(">II", frames, 0))] if frames else []
    chunks += [(b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )  # fmt: skip


def tiff_pages(pages: int = 32_000) -> bytes:
    """Returns a TIFF of many pages, each of one pixel."""
    size = 2 + 8 * 12 + 4
    parts = [b"II*\0", struct.pack("<I", 8)]
    for page in range(pages):
        tags = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 4, 278: 1, 279: 1}
        parts.append(struct.pack("<H", len(tags)))
        parts += [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
        parts.append(struct.pack("<I", 8 + (page + 1) * size if page + 1 < pages else 0))
    return b"".join(parts)


def repeated_gif(frames: int = 5_000) -> bytes:
    """Returns a GIF of many frames of one pixel."""
    start = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    return start + frame * frames + b";"


HOSTILE = {
    "bmp": run_length_bmp,
    "webp": empty_webp,
    "grey-alpha.png": deep_png,
    "rgba.png": lambda: deep_png(kind=6),
    "animated.png": lambda: deep_png(side=100, frames=1_000_000),
    "tif": tiff_pages,
    "gif": repeated_gif,
}
