"""Strengths of augmentation, with named presets. Loads no TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from cxr_tfds.errors import InputError

FILLS = ("nearest", "constant", "reflect")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """The strength of each random change; 0 switches it off.

    Values are drawn for each image from a uniform distribution, except the share of mixup.
    `LIMITS` holds the largest values allowed. Only `flip` changes laterality, and only `mixup`
    changes labels.

    Attributes:
      rotation_deg: Largest rotation in either direction, in degrees.
      shear_deg: Largest shear in either direction, in degrees.
      zoom: Height and width are each divided by their own draw from 1 - zoom to 1 + zoom, so the
        aspect ratio changes as well.
      shift: Largest shift in either direction and axis, as a fraction of the side.
      flip: Probability of mirroring left and right. A mirrored chest shows the heart on the wrong
        side, which is a different finding (situs inversus): use 0 if that matters.
      fill: Pixels outside the image: "nearest" repeats its edge, "constant" is black, "reflect"
        mirrors the image.
      brightness: Largest change of brightness, as a fraction of full scale.
      contrast: The distance from the image's mean is multiplied by 1 - contrast to 1 + contrast.
      gamma: Grey values are raised to the power exp(-gamma) to exp(gamma).
      blur: Largest standard deviation of a Gaussian blur, in pixels. It is applied to an image with
        probability 1/4.
      noise: Largest half-width of uniform white noise, as a fraction of full scale; probability
        1/4.
      jpeg: Compression at a quality of 100 - jpeg to 100; probability 1/4.
      mixup: Images and labels are mixed in pairs with a share drawn from Beta(mixup, mixup)
        (Zhang et al. 2018, https://arxiv.org/abs/1710.09412).

    Raises:
      InputError: A value is out of its range.
    """

    rotation_deg: float = 0.0
    shear_deg: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    flip: float = 0.0
    fill: str = "nearest"
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: float = 0.0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        if self.fill not in FILLS:
            raise InputError(f"fill={self.fill!r}; expected one of {', '.join(FILLS)}.")
        for name, limit in LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value <= limit:
                raise InputError(f"{name}={value!r}; expected 0 to {limit}.")

    @property
    def warps(self) -> bool:
        """Whether an image is moved, turned, scaled or mirrored."""
        return any((self.rotation_deg, self.shear_deg, self.zoom, self.shift, self.flip))

    @property
    def exposes(self) -> bool:
        """Whether brightness, contrast or gamma changes."""
        return any((self.brightness, self.contrast, self.gamma))


LIMITS = {
    "rotation_deg": 180,
    "shear_deg": 60,
    "zoom": 0.9,
    "shift": 1,
    "flip": 1,
    "brightness": 1,
    "contrast": 1,
    "gamma": 3,
    "blur": 2,
    "noise": 1,
    "jpeg": 99,
    "mixup": 10,
}

PRESETS = {
    "none": AugmentSettings(),
    # As ImageDataGenerator(shear_range=0.2, zoom_range=0.2, horizontal_flip=True), with its shear
    # in degrees.
    "classic": AugmentSettings(shear_deg=0.2, zoom=0.2, flip=0.5),
    "default": AugmentSettings(
        rotation_deg=10, shear_deg=5, zoom=0.12, shift=0.06, flip=0.5,
        brightness=0.12, contrast=0.25, gamma=0.3, blur=1.2, noise=0.08, jpeg=75,
    ),
    "strong": AugmentSettings(
        rotation_deg=20, shear_deg=10, zoom=0.25, shift=0.12, flip=0.5,
        brightness=0.2, contrast=0.45, gamma=0.6, blur=2, noise=0.15, jpeg=90, mixup=0.2,
    ),
}  # fmt: skip


def augmentation(preset: str, changes: Mapping[str, float | str]) -> AugmentSettings:
    """Returns a preset with some of its values replaced.

    Raises:
      InputError: The preset or the name of a value does not exist, or a value is out of its range.
    """
    if preset not in PRESETS:
        raise InputError(f"augment={preset!r}; expected one of {', '.join(PRESETS)}.")
    if unknown := set(changes) - {"fill", *LIMITS}:
        raise InputError(
            f"augment has no {', '.join(sorted(unknown))}; it has fill, {', '.join(LIMITS)}."
        )
    return dataclasses.replace(PRESETS[preset], **changes)  # type: ignore[arg-type]
