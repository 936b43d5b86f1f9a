"""Statistics of the pixels of a fitted image, which may predict its class without the lungs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

_BORDER_SHARE = 0.05  # of each side
_EXTREME = 5  # grey values of the lowest and of the highest 2 % of the range: 0 to 5, 250 to 255
_VALUES = np.arange(256)
_SQUARES = _VALUES**2
HASH_SIDE = 16


class PixelStats(NamedTuple):
    """Statistics of the pixels of one fitted image, 0 to 255."""

    mean: float
    contrast: float  # standard deviation
    border: float  # mean of the outer 5 % of each side
    sharpness: float  # mean absolute difference of neighbours
    black: float  # share of pixels in the lowest 2 % of the range
    white: float  # share of pixels in the highest 2 % of the range
    difference_hash: str  # of 256 bits, see `hash_differences`
    counts: np.ndarray  # int (256,), the number of pixels of each grey value

    @classmethod
    def from_pixels(cls, pixels: np.ndarray) -> PixelStats:
        """Returns the statistics of uint8 (S, S, C) pixels; only the first channel is used."""
        grey = np.ascontiguousarray(pixels[..., 0])
        image = Image.fromarray(grey)
        counts = np.fromiter(image.histogram(), np.int64, len(_VALUES))  # faster than bincount
        total = int(counts @ _VALUES)
        mean = total / grey.size
        variance = int(counts @ _SQUARES) / grey.size - mean**2
        width = max(1, round(_BORDER_SHARE * len(grey)))
        inner = grey[width:-width, width:-width]
        border = (total - _sum(inner)) / (grey.size - inner.size)
        sharpness = (_mean_difference(grey, total) + _mean_difference(grey.T, total)) / 2
        return cls(
            round(mean, 3),
            round(max(0.0, variance) ** 0.5, 3),
            round(border, 3),
            round(sharpness, 3),
            round(int(counts[: _EXTREME + 1].sum()) / grey.size, 4),
            round(int(counts[-_EXTREME - 1 :].sum()) / grey.size, 4),
            hash_differences(image),
            counts,
        )


def _sum(values: np.ndarray) -> int:
    return int(values.sum(dtype=np.uint32))  # faster than uint64


def _mean_difference(grey: np.ndarray, total: int) -> float:
    """Returns the mean absolute difference of neighbouring rows, 0 if there is one row.

    Twice the larger of two values less both is their difference.
    """
    larger = np.maximum(grey[1:], grey[:-1])
    both = 2 * total - _sum(grey[0]) - _sum(grey[-1])
    return (2 * _sum(larger) - both) / max(1, larger.size)


def hash_differences(image: Image.Image) -> str:
    """Returns the difference hash of a grey image of 8 bits as 64 hexadecimal digits.

    Each of its 256 bits states whether the right neighbour of a part of the image is brighter.
    Source: N. Krawetz, "Kind of Like That", https://www.hackerfactor.com/blog/?/archives/529-.html
    """
    size = (HASH_SIDE + 1, HASH_SIDE)
    reduced = image.reduce(max(1, min(image.size) // (2 * HASH_SIDE)))  # faster than one step
    small = np.asarray(reduced.resize(size, Image.Resampling.BOX))
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes().hex()
