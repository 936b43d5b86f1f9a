"""What a source file tells beside its picture: gathered while it is read once, checked when all are read."""

from __future__ import annotations

import zlib
from typing import NamedTuple

from cxr_tfds.imaging.jpeg import jpeg_quality
from cxr_tfds.imaging.pixels import Radiograph


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
    return Facts(
        checksum(data),
        len(data),
        decoded.height,
        decoded.width,
        decoded.form,
        decoded.mode,
        quality,
    )


def checksum(data: bytes) -> int:
    """64 bits: the CRC-32 of either half of a file.

    It finds copies and guards against nobody; SHA-256 takes twice as long with the processor's help, 0.11 ms of
    the 3 ms of an image of 200 KB (x86-64, 2026-11), and several times as long without.
    """
    view, half = memoryview(data), len(data) // 2
    return zlib.crc32(view[:half]) << 32 | zlib.crc32(view[half:])
