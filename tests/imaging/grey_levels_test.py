"""Tests the settings of grey levels, their ranges, and what counts as an outlier."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.grey_levels import CT_WINDOWS, GreyLevels, robust_range
from cxr_tfds.imaging.pixel_stats import PixelStats


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"bits": 12, "window": "lung"}, "^bits and window are given; expected at most one"),
        ({"bits": 7}, "^bits=7; expected 8 to 16"),
        ({"bits": 12.0}, r"^bits=12\.0; expected 8 to 16"),
        ({"bits": True}, "^bits=True; expected 8 to 16"),
        ({"window": "liver"}, "^window='liver'; expected lung, mediastinum, bone, or center"),
        ({"window": [40]}, r"^window=\[40\]; expected two numbers"),
        ({"window": 40}, "^window=40; expected two numbers"),
        ({"window": [40, 0]}, r"^window=\[40\.0, 0\.0\]; expected a width of 1 or more"),
        ({"window": [40, float("nan")]}, "expected two numbers"),
        ({"percentile": [99, 1]}, r"^percentile=\[99\.0, 1\.0\]; expected two sorted numbers"),
        ({"percentile": [0, 101]}, "expected two sorted numbers, 0 to 100"),
        ({"percentile": "ab"}, "^percentile='ab'; expected two numbers"),
        ({"measured": [5, 5]}, "expected a low and a high value"),
    ],
)
def test_refuses_settings(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        GreyLevels(**settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"bits": 12}, (0, 4095)),
        ({"window": [0, 401]}, (-200.5, 199.5)),
        ({"window": "lung"}, (-1350, 149)),
        ({"percentile": [1, 99]}, None),
        ({"measured": [-1024, 3071]}, (-1024, 3071)),
    ],
)
def test_ranges(settings: dict[str, Any], expected: tuple[float, float] | None) -> None:
    levels = GreyLevels(**settings)
    assert levels.range == expected
    assert (levels.low, levels.high) == (expected or (None, None))
    assert levels.needs_range == (not settings)
    assert GreyLevels.from_metadata(levels.to_metadata()) == levels


def test_old_metadata_has_no_levels() -> None:
    assert GreyLevels.from_metadata({"size": 224}) == GreyLevels()


@pytest.mark.parametrize(("name", "window"), CT_WINDOWS.items())
def test_named_windows_equal_their_numbers(name: str, window: tuple[float, float]) -> None:
    assert GreyLevels(window=name) == GreyLevels(window=window)


@pytest.mark.parametrize("side", [2, 10, 300])
@pytest.mark.parametrize("value", [0, 65535])
def test_one_hot_or_dead_pixel_is_an_outlier(side: int, value: int) -> None:
    values = np.full((side, side), 1000, np.uint16)
    values[0, 0] = value
    assert robust_range(values) == (1000, 1000)


def test_range_leaves_out_one_pixel_in_10_000() -> None:
    values = np.arange(100_000)
    assert robust_range(values) == (10, 99_989)


def test_stats_by_hand() -> None:
    pixels = np.full((20, 20, 1), 100, np.uint8)
    pixels[1:-1, 1:-1] = 200
    pixels[1, 1] = 255
    stats = PixelStats.from_pixels(pixels)
    assert stats.mean == pytest.approx(pixels.mean(), abs=1e-3)
    assert stats.contrast == pytest.approx(pixels.std(), abs=1e-3)
    assert stats.border == 100
    # Of 380 horizontal steps 36 are 100, the step into the changed pixel is 155, and out of it 55.
    assert stats.sharpness == pytest.approx((35 * 100 + 155 + 55) / 380, abs=1e-3)
    assert (stats.black, stats.white) == (0, 1 / 400)


@pytest.mark.parametrize(
    ("value", "black", "white"), [(5, 1, 0), (6, 0, 0), (249, 0, 0), (250, 0, 1)]
)
def test_black_and_white_are_the_outer_two_percent(value: int, black: int, white: int) -> None:
    stats = PixelStats.from_pixels(np.full((1, 1, 3), value, np.uint8))
    assert (stats.black, stats.white) == (black, white)
