"""Files to corrupt, and seeded corruptions of their bytes."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
from PIL import Image

# Suffix -> format, mode and options of Pillow.
FORMATS: dict[str, tuple[str, str, dict[str, object]]] = {
    "jpg": ("JPEG", "L", {}),
    "progressive.jpg": ("JPEG", "RGB", {"progressive": True}),
    "png": ("PNG", "L", {}),
    "16.png": ("PNG", "I;16", {}),
    "palette.png": ("PNG", "P", {"transparency": 3}),
    "tif": ("TIFF", "L", {}),
    "lzw.tif": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "gif": ("GIF", "P", {}),
    "bmp": ("BMP", "RGB", {}),
    "pgm": ("PPM", "L", {}),
    "webp": ("WEBP", "RGB", {}),
    "jp2": ("JPEG2000", "L", {}),
}
_WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def draw_images() -> dict[str, bytes]:
    """Returns an image of each format by suffix."""
    rng = np.random.default_rng(1)
    found = {}
    for suffix, (form, mode, options) in FORMATS.items():
        pixels = rng.integers(0, 256, (24, 30), dtype=np.uint8)
        is_deep = mode == "I;16"
        image = Image.fromarray(pixels.astype(np.uint16) * 257 if is_deep else pixels)
        file = io.BytesIO()
        (image if is_deep else image.convert(mode)).save(file, form, **options)
        found[suffix] = file.getvalue()
    return found


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    """Flips up to eight bits."""
    changed = bytearray(data)
    for place in rng.integers(0, len(data), rng.integers(1, 9)):
        changed[place] ^= 1 << rng.integers(8)
    return bytes(changed)


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    """Removes the end."""
    return data[: rng.integers(0, len(data))]


def splice(data: bytes, rng: np.random.Generator) -> bytes:
    """Removes, repeats or moves a part."""
    a, b, c = sorted(rng.integers(0, len(data), 3))
    return (data[:a] + data[b:], data[:b] + data[a:], data[:a] + data[b:c] + data[a:b] + data[c:])[
        rng.integers(3)
    ]


def replace_number(data: bytes, rng: np.random.Generator) -> bytes:
    """Replaces a number near the start or end, where lengths and offsets are."""
    width = int(rng.choice([2, 4]))
    reach = min(len(data) - width, 200)
    place = int(rng.integers(reach) if rng.integers(2) else len(data) - width - rng.integers(reach))
    word = int(rng.choice(_WORDS)) % (1 << 8 * width)
    order = "<>"[rng.integers(2)]
    return data[:place] + struct.pack(order + {2: "H", 4: "I"}[width], word) + data[place + width :]


def corrupt(data: bytes, rng: np.random.Generator) -> bytes:
    """Returns at least eight bytes after one or two corruptions, which may change nothing."""
    for _ in range(rng.integers(1, 3)):
        kinds = (flip, truncate, splice, replace_number, replace_number)
        data = (kinds[rng.integers(5)](data, rng) or b"\0").ljust(8, b"\0")
    return data


def zip_start(model: bytes) -> int:
    """Returns where the zip of a model file begins, after the flatbuffer."""
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        return min(entry.header_offset for entry in archive.infolist())


def corrupt_model(content: bytes, rng: np.random.Generator) -> dict[str, bytes]:
    """Returns a model file with one bit changed, a changed flatbuffer, and a changed zip."""
    end = zip_start(content)
    flatbuffer = content[:end]
    while flatbuffer[:end] == content[:end]:  # a corruption may change nothing
        flatbuffer = corrupt(content[:end], rng)
    place = rng.integers(8, end)
    return {
        "byte": content[:place]
        + bytes([content[place] ^ 1 << rng.integers(8)])
        + content[place + 1 :],
        "flatbuffer": flatbuffer + content[end:],
        "zip": content[:end] + corrupt(content[end:], rng),
    }
