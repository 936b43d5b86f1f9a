"""What images go through in `cxr-evaluate --stress`: other equipment, other hands, other archives.

Each condition changes one property of every image by a stated amount, at three strengths, with the operations
that augmentation uses. Nothing is drawn but noise, which has its seed in the image's number: the same images
give the same figures. No change of the label is meant: at each strength a radiologist would still read them.
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

# float32 images (N, S, S, C), their numbers int (N,) and an amount, to images of the same shape
Change = Callable[[Any, np.ndarray, float], Any]


@dataclasses.dataclass(frozen=True)
class Condition:
    """One property of the image, changed.

    SD is a standard deviation, px a pixel of the model's image, gamma the power of grey values from 0 to 1.

    Attributes:
      name: as the table shows it.
      amounts: mild, moderate, severe.
      wording: of an amount, with its unit.
      leans_on: what a model leans on that loses here.
      stands_for: what brings this about in practice.
      change: the operation.
    """

    name: str
    amounts: tuple[float, float, float]
    wording: str
    leans_on: str
    stands_for: str
    change: Change

    def amount(self, strength: str) -> float:
        """Of a strength in `STRENGTHS`."""
        return self.amounts[STRENGTHS.index(strength)]

    def written(self, strength: str) -> str:
        """The amount with its unit, such as "1 px SD"."""
        return self.wording.format(self.amount(strength))

    def apply(self, images: np.ndarray, numbers: np.ndarray, strength: str) -> np.ndarray:
        """uint8 images (N, S, S, C), 0 to 255, changed and rounded to uint8 again, as a device would see them.

        Args:
          images: left as they are.
          numbers: int (N,), of the images in their split: neighbours are moved and turned differently.
          strength: one of `STRENGTHS`.
        """
        changed = self.change(images.astype(np.float32), numbers, self.amount(strength))
        return np.rint(np.clip(np.asarray(changed), 0, 255)).astype(np.uint8)


def _column(images: Any, value: float) -> np.ndarray:
    return np.full(len(images), value, np.float32)


def _compressed(images: Any, numbers: np.ndarray, amount: float) -> Any:
    return compress(images, _column(images, amount))


def _blurred(images: Any, numbers: np.ndarray, amount: float) -> Any:
    return blur(images, _column(images, amount))


def _with_gamma(images: Any, numbers: np.ndarray, amount: float) -> Any:
    return expose(
        images, np.float32(1), np.float32(0), _column(images, amount)[:, None, None, None]
    )


def _with_contrast(images: Any, numbers: np.ndarray, amount: float) -> Any:
    """Around the mean of each image."""
    return expose(
        images, _column(images, amount)[:, None, None, None], np.float32(0), np.float32(1)
    )


def _noisy(images: Any, numbers: np.ndarray, amount: float) -> Any:
    """Gaussian and white, of its own for each image."""
    drawn = [
        np.random.default_rng((_NOISE_SEED, int(number))).standard_normal(
            images.shape[1:], np.float32
        )
        for number in numbers
    ]
    return images + 255 * amount * np.stack(drawn)


def _shifted(images: Any, numbers: np.ndarray, amount: float) -> Any:
    """To the right, the left, down and up in turn; the edge is repeated."""
    rows = np.tile(np.array([1, 0, 0, 0, 1, 0], np.float32), (len(numbers), 1))
    sign, down = np.where(numbers % 2, 1, -1), numbers // 2 % 2
    rows[:, 2] = sign * (1 - down) * amount * images.shape[2]
    rows[:, 5] = sign * down * amount * images.shape[1]
    return warp(ops.convert_to_tensor(images), rows)


def _rotated(images: Any, numbers: np.ndarray, amount: float) -> Any:
    """Left and right in turn, about the centre; the edge is repeated."""
    angle = np.where(numbers % 2, 1, -1) * math.radians(amount)
    cos, sin, zero = np.cos(angle), np.sin(angle), np.zeros(len(numbers))
    rows = np.stack([cos, -sin, zero, sin, cos, zero], axis=1).astype(np.float32)
    return warp(ops.convert_to_tensor(images), rows)


def _cropped(images: Any, numbers: np.ndarray, amount: float) -> Any:
    """The middle of the image, enlarged to its whole size."""
    rows = np.tile(np.array([1 - amount, 0, 0, 0, 1 - amount, 0], np.float32), (len(numbers), 1))
    return warp(ops.convert_to_tensor(images), rows)


CONDITIONS = (
    Condition(
        "JPEG quality", (70, 40, 15), "quality {:g}", "the fine texture that compression removes",
        "archives, messengers and web pages that store images smaller",
        _compressed,
    ),
    Condition(
        "blur", (0.5, 1.0, 2.0), "{:g} px SD", "fine detail such as sharp vessels and edges",
        "breathing, a large focal spot, a film photographed or scanned",
        _blurred,
    ),
    Condition(
        "noise", (0.02, 0.04, 0.08), "{:.0%} of full scale SD", "faint texture in smooth areas",
        "a lower dose, a larger patient, an older detector", _noisy,
    ),
    Condition(
        "darker exposure", (1.2, 1.5, 2.0), "gamma {:g}", "how bright the lungs are",
        "a higher dose or another grey-scale curve: lungs look blacker",
        _with_gamma,
    ),
    Condition(
        "brighter exposure", (0.83, 0.67, 0.5), "gamma {:g}", "how dark the lungs are",
        "a lower dose or another grey-scale curve: lungs look whiter",
        _with_gamma,
    ),
    Condition(
        "lower contrast", (0.85, 0.7, 0.5), "contrast x {:g}", "the strength of contrast",
        "a wider window, a higher tube voltage, scatter",
        _with_contrast,
    ),
    Condition(
        "higher contrast", (1.15, 1.3, 1.6), "contrast x {:g}", "grey values between black and white",
        "a narrower window, processing that sharpens for print",
        _with_contrast,
    ),
    Condition(
        "shift", (0.03, 0.06, 0.12), "{:.0%} of the side", "where the chest lies in the image",
        "a patient not centred, another collimation", _shifted,
    ),
    Condition(
        "rotation", (3, 7, 15), "{:g} degrees", "an upright chest",
        "a patient who leans, a cassette at an angle", _rotated,
    ),
    Condition(
        "crop", (0.05, 0.1, 0.2), "{:.0%} of the side",
        "what stands at the edge (markers, arms, the size of the chest)",
        "closer collimation, borders cut off", _cropped,
    ),
)  # fmt: skip
