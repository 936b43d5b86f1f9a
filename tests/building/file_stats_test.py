"""Facts of a file: its checksum, its size, and the quality its JPEG tables tell."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.sources import encode
from PIL import Image

from cxr_tfds.building.file_stats import Facts, checksum, facts_of
from cxr_tfds.imaging.jpeg import jpeg_quality
from cxr_tfds.imaging.pixels import radiograph

GREY = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50), dtype=np.uint8))


@pytest.mark.parametrize("quality", [1, 3, 10, 25, 40, 50, 60, 75, 85, 90, 95, 100])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_the_quality_a_jpeg_was_saved_with(quality: int, mode: str) -> None:
    decoded = radiograph(encode(GREY.convert(mode), "JPEG", quality=quality), 8)
    assert abs(jpeg_quality(decoded.quantization) - quality) <= 1


@pytest.mark.parametrize(
    ("table", "quality"),
    [
        ([1] * 64, 99),
        ([255] * 64, 1),
        ([65535] * 64, 1),
    ],  # the last: 16-bit tables of another encoder
)
def test_extreme_tables(table: list[int], quality: int) -> None:
    assert jpeg_quality(table) == quality


@pytest.mark.parametrize(
    ("image", "form", "mode", "quality"),
    [
        (GREY, "JPEG", "L", 75),
        (GREY.convert("RGB"), "JPEG", "RGB", 75),
        (GREY.convert("RGBA"), "PNG", "RGBA", None),
        (GREY, "TIFF", "L", None),
    ],
)
def test_facts(image: Image.Image, form: str, mode: str, quality: int | None) -> None:
    data = encode(image, form)
    facts = facts_of(data, radiograph(data, 8))
    assert facts == Facts(checksum(data), len(data), 30, 50, form, mode, quality)


@pytest.mark.parametrize("at", [0, 1, 4, 7])
def test_a_changed_byte_changes_the_checksum(at: int) -> None:
    data = bytearray(b"12345678")
    data[at] ^= 1
    assert checksum(bytes(data)) != checksum(b"12345678")


def test_halves_exchanged_are_another_file() -> None:
    assert checksum(b"56781234") != checksum(b"12345678")
    assert checksum(b"") == 0
