"""Facts of a file: its digest, its size, and the quality its JPEG tables tell."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from cxr_tfds.facts import Facts, facts_of, jpeg_quality
from cxr_tfds.pixels import radiograph

GREY = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50), dtype=np.uint8))


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


@pytest.mark.parametrize("quality", [1, 3, 10, 25, 40, 50, 60, 75, 85, 90, 95, 100])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_the_quality_a_jpeg_was_saved_with(quality: int, mode: str) -> None:
    decoded = radiograph(encode(GREY.convert(mode), "JPEG", quality=quality), 8)
    assert abs(jpeg_quality(decoded.quantization) - quality) <= 1


@pytest.mark.parametrize(
    ("table", "quality"),
    [([1] * 64, 99), ([255] * 64, 1), ([65535] * 64, 1)],  # the last: 16-bit tables of another encoder
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
    assert facts == Facts(hashlib.sha256(data).digest(), len(data), 30, 50, form, mode, quality)
