"""Image changes of the stress test: other equipment, other handling, other archives.

Each condition changes one property of every image by a fixed amount, in three strengths, with the
operations of the augmentation. Only noise is random, seeded by the number of the image, so the same
images give the same metrics. Changes do not affect the label: a radiologist could still read every
image.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from cxr_tfds.augmentation.augment import expose, warp
from cxr_tfds.augmentation.degrade import blur, compress

STRENGTHS = ("mild", "moderate", "severe")
MODERATE = "moderate"
_NOISE_SEED = 20_270

# float32 images (N, S, S, C), their indices int (N,) and an amount, to images of the same shape
Change = Callable[[Any, np.ndarray, float], Any]


@dataclasses.dataclass(frozen=True)
class Condition:
    """A change of one image property."""

    name: str
    amounts: tuple[float, float, float]  # mild, moderate and severe
    # Format of an amount. SD is a standard deviation, px a pixel of the model's image, gamma the
    # power of grey values from 0 to 1.
    unit: str
    relies_on: str  # what a model relies on if it fails here
    causes: str  # what causes this change in practice
    change: Change

    def amount(self, strength: str) -> float:
        """Returns the amount of a strength in `STRENGTHS`."""
        return self.amounts[STRENGTHS.index(strength)]

    def format_amount(self, strength: str) -> str:
        """Returns the amount with its unit, such as "1 px SD"."""
        return self.unit.format(self.amount(strength))

    def apply(self, images: np.ndarray, indices: np.ndarray, strength: str) -> np.ndarray:
        """Returns changed images, rounded to uint8 as a device would receive them.

        `indices` are their places in the split; neighbours are moved and rotated differently.
        """
        changed = self.change(images.astype(np.float32), indices, self.amount(strength))
        return np.rint(np.clip(np.asarray(changed), 0, 255)).astype(np.uint8)


def _compress(images: Any, indices: np.ndarray, quality: float) -> Any:
    return compress(images, np.full(len(images), quality, np.float32))


def _blur(images: Any, indices: np.ndarray, sigma: float) -> Any:
    return blur(images, np.full(len(images), sigma, np.float32))


def _change_gamma(images: Any, indices: np.ndarray, gamma: float) -> Any:
    return expose(images, np.float32(1), np.float32(0), np.float32(gamma))


def _change_contrast(images: Any, indices: np.ndarray, gain: float) -> Any:
    return expose(images, np.float32(gain), np.float32(0), np.float32(1))


def _add_noise(images: Any, indices: np.ndarray, deviation: float) -> Any:
    """Adds white Gaussian noise, different for each image."""
    generators = [np.random.default_rng((_NOISE_SEED, int(index))) for index in indices]
    noise = [each.standard_normal(images.shape[1:], "float32") for each in generators]
    return images + 255 * deviation * np.stack(noise)


def _shift(images: Any, indices: np.ndarray, part: float) -> Any:
    """Shifts to the right, left, bottom and top in turn; the edge is repeated."""
    distance, down = np.where(indices % 2, 1, -1) * part, indices // 2 % 2
    height, width = images.shape[1:3]
    return _warp(images, x=distance * (1 - down) * width, y=distance * down * height)


def _rotate(images: Any, indices: np.ndarray, degrees: float) -> Any:
    """Rotates about the centre, left and right in turn; the edge is repeated."""
    angle = np.where(indices % 2, 1, -1) * math.radians(degrees)
    return _warp(images, a=np.cos(angle), b=np.sin(angle))


def _crop(images: Any, indices: np.ndarray, part: float) -> Any:
    """Enlarges the middle of the image to full size."""
    return _warp(images, a=1 - part)


def _warp(images: Any, *, a: Any = 1, b: Any = 0, x: Any = 0, y: Any = 0) -> Any:
    """Warps by the matrix ((a, -b, x), (b, a, y)), see `warp`; each entry is a number or (N,)."""
    rows = np.broadcast_arrays(a, -b, x, b, a, y, np.empty(len(images)))[:6]
    return warp(ops.convert_to_tensor(images), np.stack(rows, axis=1).astype(np.float32))


CONDITIONS = (
    Condition(
        "JPEG quality", (70, 40, 15), "quality {:g}", "fine texture that compression removes",
        "archives, messengers and web pages that compress images", _compress,
    ),
    Condition(
        "blur", (0.5, 1.0, 2.0), "{:g} px SD", "fine detail such as sharp vessels and edges",
        "breathing, a large focal spot, a photographed or scanned film", _blur,
    ),
    Condition(
        "noise", (0.02, 0.04, 0.08), "{:.0%} of full scale SD", "faint texture in smooth areas",
        "a lower dose, a larger patient, an older detector", _add_noise,
    ),
    Condition(
        "darker exposure", (1.2, 1.5, 2.0), "gamma {:g}", "the brightness of the lungs",
        "a higher dose or another grey-scale curve", _change_gamma,
    ),
    Condition(
        "brighter exposure", (0.83, 0.67, 0.5), "gamma {:g}", "the darkness of the lungs",
        "a lower dose or another grey-scale curve", _change_gamma,
    ),
    Condition(
        "lower contrast", (0.85, 0.7, 0.5), "contrast x {:g}", "strong contrast",
        "a wider window, a higher tube voltage, scatter", _change_contrast,
    ),
    Condition(
        "higher contrast", (1.15, 1.3, 1.6), "contrast x {:g}", "values between black and white",
        "a narrower window, sharpening for print", _change_contrast,
    ),
    Condition(
        "shift", (0.03, 0.06, 0.12), "{:.0%} of the side", "the position of the chest in the image",
        "an off-centre patient, another collimation", _shift,
    ),
    Condition(
        "rotation", (3, 7, 15), "{:g} degrees", "an upright chest",
        "a leaning patient, a tilted cassette", _rotate,
    ),
    Condition(
        "crop", (0.05, 0.1, 0.2), "{:.0%} of the side",
        "the edge of the image (markers, arms, the size of the chest)",
        "closer collimation, borders cut off", _crop,
    ),
)  # fmt: skip
