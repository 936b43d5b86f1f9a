"""Near-duplicates: up to 8 bits of the difference hash, never blank or identical images."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from cxr_tfds.building import near_duplicates
from cxr_tfds.building.file_stats import FileStats
from cxr_tfds.building.near_duplicates import MOST_DIFFERENT, find_near_duplicates
from cxr_tfds.imaging.pixel_stats import hash_differences


def make_stats(difference_hash: str, pixels: int) -> FileStats:
    return FileStats(0, pixels, 1, 1, 1, "PNG", "L", None, difference_hash=difference_hash)


def flip(bits: np.ndarray, *positions: int) -> str:
    changed = bits.copy()
    changed[list(positions)] ^= 1
    return np.packbits(changed).tobytes().hex()


@pytest.fixture
def bits() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, 256, dtype=np.uint8)


@pytest.mark.parametrize(("count", "found"), [(0, True), (1, True), (8, True), (9, False)])
@pytest.mark.parametrize("first", [0, 130, 247])
def test_limit(count: int, found: bool, first: int, bits: np.ndarray) -> None:
    assert MOST_DIFFERENT == 8
    stats = {
        "b": make_stats(flip(bits), 1),
        "a": make_stats(flip(bits, *range(first, first + count)), 2),
    }
    assert find_near_duplicates(stats) == [("a", "b")] * found


def test_identical_pixels_are_not_listed(bits: np.ndarray) -> None:
    stats = {
        "a": make_stats(flip(bits), 1),
        "b": make_stats(flip(bits), 1),
        "c": make_stats(flip(bits, 3), 2),
    }
    assert find_near_duplicates(stats) == [("a", "c"), ("b", "c")]


def test_blank_and_unmeasured_images_match_nothing(bits: np.ndarray) -> None:
    blank = hash_differences(Image.new("L", (64, 64), 7))
    falling = hash_differences(
        Image.fromarray(np.repeat(np.arange(64, 0, -1, dtype=np.uint8)[None], 64, axis=0))
    )
    assert blank == falling == "0" * 64  # no right neighbour is brighter
    stats = {
        "blank": make_stats(blank, 1),
        "falling": make_stats(falling, 2),
        "unmeasured": make_stats("", 3),
        "also unmeasured": make_stats("", 4),
        "one bit": make_stats(flip(np.zeros(256, np.uint8), 0), 5),
        "other": make_stats(flip(bits), 6),
    }
    assert find_near_duplicates(stats) == []
    assert find_near_duplicates({}) == []
    assert find_near_duplicates({**stats, "z": make_stats(flip(bits, 5), 7)}) == [("other", "z")]


def test_finds_a_chain(bits: np.ndarray) -> None:
    """A chain of images, each one 6 bits from the next."""
    names = "abcdefgh"
    stats = {
        name: make_stats(flip(bits, *range(6 * position)), position)
        for position, name in enumerate(names)
    }
    assert find_near_duplicates(stats) == list(pairwise(names))


def test_brightened_copy_is_found() -> None:
    rng = np.random.default_rng(1)
    coarse = rng.integers(20, 200, (17, 17)).astype(np.uint8)
    picture = np.kron(coarse, np.ones((8, 8), np.uint8))
    other = np.kron(rng.integers(20, 200, (17, 17)).astype(np.uint8), np.ones((8, 8), np.uint8))
    stats = {
        name: make_stats(hash_differences(Image.fromarray(pixels)), number)
        for number, (name, pixels) in enumerate(
            {"plain": picture, "bright": picture + 30, "other": other}.items()
        )
    }
    assert find_near_duplicates(stats) == [("bright", "plain")]


@pytest.mark.slow
def test_finds_every_pair_of_images() -> None:
    """2,000 pairs that differ in 8 bits anywhere, and as many that differ in 9."""
    rng = np.random.default_rng(2)
    stats, wanted = {}, []
    for number in range(4000):
        bits = rng.integers(0, 2, 256, dtype=np.uint8)
        places = rng.permutation(256)[: 8 if number < 2000 else 9]
        first, second = f"{number:04}a", f"{number:04}b"
        stats[first] = make_stats(flip(bits), 2 * number)
        stats[second] = make_stats(flip(bits, *places), 2 * number + 1)
        if number < 2000:
            wanted.append((first, second))
    assert find_near_duplicates(stats) == wanted


def test_number_of_pairs_is_limited(bits: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 frames of a film are 499,500 pairs."""
    stats = {f"{number:03}": make_stats(flip(bits), number) for number in range(1000)}
    monkeypatch.setattr(near_duplicates, "MOST_PAIRS", 50)
    pairs = find_near_duplicates(stats)
    assert len(pairs) == len(set(pairs)) == 50
    assert pairs == sorted(pairs)
    assert all(first < second for first, second in pairs)
