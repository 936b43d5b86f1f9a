"""Tests file statistics: checksum, size and JPEG quality."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.sources import encode
from PIL import Image

from cxr_tfds.building.file_stats import FileStats, compute_checksum
from cxr_tfds.building.fitting import FitSettings, fit_file
from cxr_tfds.imaging.jpeg import jpeg_quality
from cxr_tfds.imaging.pixels import Radiograph, radiograph

GREY = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50), dtype=np.uint8))


@pytest.mark.parametrize("quality", [1, 3, 10, 25, 40, 50, 60, 75, 85, 90, 95, 100])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_estimates_jpeg_quality(quality: int, mode: str) -> None:
    decoded = radiograph(encode(GREY.convert(mode), "JPEG", quality=quality), 8)
    assert abs(jpeg_quality(tuple(decoded.quantization)) - quality) <= 1


@pytest.mark.parametrize(
    ("table", "quality"),
    [
        ([1] * 64, 99),
        ([255] * 64, 1),
        ([65535] * 64, 1),
    ],  # the last: 16-bit tables of another encoder
)
def test_clips_extreme_tables(table: list[int], quality: int) -> None:
    assert jpeg_quality(tuple(table)) == quality


@pytest.mark.parametrize(
    ("image", "form", "mode", "quality"),
    [
        (GREY, "JPEG", "L", 75),
        (GREY.convert("RGB"), "JPEG", "RGB", 75),
        (GREY.convert("RGBA"), "PNG", "RGBA", None),
        (GREY, "TIFF", "L", None),
    ],
)
def test_stats_of_a_file(image: Image.Image, form: str, mode: str, quality: int | None) -> None:
    data = encode(image, form)
    decoded = fit_file(data, FitSettings(8))
    assert isinstance(decoded, Radiograph)
    stats = FileStats.from_image(decoded)
    pixels = compute_checksum(decoded.pixels.tobytes())
    assert stats[:8] == (compute_checksum(data), pixels, len(data), 30, 50, form, mode, quality)
    assert stats.mean == pytest.approx(decoded.pixels.mean(), abs=1e-3)
    assert stats.grey_levels is not None
    assert 100 < stats.grey_levels <= 256


@pytest.mark.parametrize("at", [0, 1, 4, 7])
def test_changed_byte_changes_the_checksum(at: int) -> None:
    data = bytearray(b"12345678")
    data[at] ^= 1
    assert compute_checksum(bytes(data)) != compute_checksum(b"12345678")


def test_swapped_halves_change_the_checksum() -> None:
    assert compute_checksum(b"56781234") != compute_checksum(b"12345678")
    assert compute_checksum(b"") == 0
