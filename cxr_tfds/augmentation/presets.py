"""How strongly training images are changed, as named presets; loads no TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from cxr_tfds.errors import InputError

FILLS = ("nearest", "constant", "reflect")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """How far images are changed; values are drawn for each image, uniformly but for mixup; 0 is off.

    The largest values allowed are in `LIMITS`. Only `flip` changes laterality and only `mixup` labels.

    Attributes:
      rotation_deg: turned by up to so many degrees either way.
      shear_deg: sheared by up to so many degrees either way.
      zoom: height and width are divided by 1 - zoom to 1 + zoom, each by its own draw, so the
        aspect changes, too.
      shift: moved by up to this part of the side, both ways.
      flip: probability of mirroring left and right. A mirrored chest shows the heart on the wrong
        side, which is a different finding (situs inversus): switch it off where that matters.
      fill: what lies outside the image: "nearest" repeats its edge, "constant" is black, "reflect"
        mirrors it.
      brightness: adds up to this part of full scale, either way.
      contrast: scales the distance from the image's mean by 1 - contrast to 1 + contrast.
      gamma: raises to the power exp(-gamma) to exp(gamma).
      blur: Gaussian, of a standard deviation of 0 to so many pixels, for a quarter of the images.
      noise: uniform and white, of a half-width of 0 to this part of full scale, for another quarter.
      jpeg: compressed at a quality of 100 - jpeg to 100, for a third quarter.
      mixup: images and labels are mixed in pairs, one by a share drawn from Beta(mixup, mixup)
        (Zhang et al. 2018, https://arxiv.org/abs/1710.09412).

    Raises:
      InputError: a value is out of its range.
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
            if (
                isinstance(value, bool)
                or not isinstance(value, (int, float))
                or not 0 <= value <= limit
            ):
                raise InputError(f"{name}={value!r}; expected 0 to {limit}.")


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
    # What ImageDataGenerator(shear_range=0.2, zoom_range=0.2, horizontal_flip=True) draws; its shear is in degrees.
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
    """A preset with some of its values replaced.

    Raises:
      InputError: the preset or a value's name is unknown, or a value is out of its range.
    """
    if preset not in PRESETS:
        raise InputError(f"augment={preset!r}; expected one of {', '.join(PRESETS)}.")
    if odd := set(changes) - {field.name for field in dataclasses.fields(AugmentSettings)}:
        raise InputError(
            f"augment has no {', '.join(sorted(odd))}; it has fill, {', '.join(LIMITS)}."
        )
    return dataclasses.replace(PRESETS[preset], **changes)  # type: ignore[arg-type]
