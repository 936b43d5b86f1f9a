"""How strongly training images are changed, as named presets; loads no TensorFlow."""

from __future__ import annotations

import dataclasses

from cxr_tfds.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """How far images are changed; every value is a half-width, drawn uniformly, 0 is off.

    Attributes:
      rotation_deg: turned by up to so many degrees either way.
      shear_deg: sheared by up to so many degrees either way.
      zoom: scaled by 1 - zoom to 1 + zoom.
      shift: moved by up to this part of the side, both ways.
      flip: probability of mirroring left and right. A mirrored chest shows the heart on the wrong
        side, which is a different finding (situs inversus): switch it off where that matters.
      brightness: adds up to this part of full scale.
      contrast: scales the distance from the image's mean by 1 - contrast to 1 + contrast.
      gamma: raises to the power exp(-gamma) to exp(gamma).
      noise: half-width of uniform white noise, itself drawn from 0 to this part of full scale.

    Raises:
      InputError: a value is out of its range.
    """

    rotation_deg: float = 0.0
    shear_deg: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    noise: float = 0.0

    _limits = {"rotation_deg": 180, "shear_deg": 60, "zoom": 0.9, "gamma": 3}  # noqa: RUF012 (not a field)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, limit = getattr(self, field.name), self._limits.get(field.name, 1)
            if not 0 <= value <= limit:
                raise InputError(f"{field.name}={value}; expected 0 to {limit}.")


PRESETS = {
    "none": AugmentSettings(),
    "default": AugmentSettings(
        rotation_deg=10, shear_deg=5, zoom=0.12, shift=0.06, flip=0.5,
        brightness=0.12, contrast=0.25, gamma=0.3, noise=0.03,
    ),
}  # fmt: skip
