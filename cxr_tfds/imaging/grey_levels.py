"""How source values of more than 8 bits become grey values 0 to 255: `GreyLevels`.

The mapping is decided once for a dataset and stored with it and with the model. It never depends on
the largest value of one image, because two images of equal exposure must keep equal grey values.
Needs only NumPy and Pillow.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from cxr_tfds.errors import BadImage, InputError

# Center and width in Hounsfield units. Source: https://radiopaedia.org/articles/windowing-ct
CT_WINDOWS: Mapping[str, tuple[float, float]] = {
    "lung": (-600.0, 1500.0),
    "mediastinum": (50.0, 350.0),
    "bone": (400.0, 1800.0),
}
MIN_BITS, MAX_BITS = 8, 16
FEW_LEVELS = 32  # an image with fewer grey levels has lost what it showed
_SETTINGS = ("bits", "window", "percentile")
# Share of pixels that may exceed the range of an image: dead and hot pixels, burnt-in markers.
_OUTLIERS = 1e-4
_PART_VALUES = 1 << 20
_EXCESS_LEVELS = 2  # source values of one grey level from which few levels are a loss


@dataclasses.dataclass(frozen=True)
class GreyLevels:
    """How source values of more than 8 bits become grey values. At most one setting is given.

    Without settings, an image that declares its bits keeps the upper 8 of them, and DICOM with a
    window is shown through it. All other images have the range `measured`, or their 16 bits if the
    dataset contained no such image.

    Attributes:
      bits: Bits of the values in images that declare no number below 16, 8 to 16.
      window: Center and width of the source values to show, or a name in `CT_WINDOWS`. In DICOM
        it applies to rescaled values, such as Hounsfield units, and replaces the file's own.
      percentile: Percentiles of each image that become 0 and 255. This setting alone depends on
        the single image, and it also applies to images of 8 bits.
      measured: Lowest and highest source value of the dataset, see
        `cxr_tfds.building.grey_range.find_range`.

    Raises:
      InputError: A value is out of range, or more than one setting is given.
    """

    bits: int | None = None
    window: tuple[float, float] | str | None = None
    percentile: tuple[float, float] | None = None
    measured: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Checks the settings and replaces a named window by its numbers."""
        given = [name for name in _SETTINGS if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError(f"{' and '.join(given)} are given; expected at most one of them.")
        if self.bits is not None and not (
            type(self.bits) is int and MIN_BITS <= self.bits <= MAX_BITS
        ):
            raise InputError(f"bits={self.bits!r}; expected {MIN_BITS} to {MAX_BITS}.")
        if isinstance(self.window, str):
            if self.window not in CT_WINDOWS:
                raise InputError(
                    f"window={self.window!r}; expected {', '.join(CT_WINDOWS)}, or center and "
                    "width such as [-600, 1500]."
                )
            object.__setattr__(self, "window", CT_WINDOWS[self.window])
        for name in ("window", "percentile", "measured"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, _as_pair(name, value))
        if isinstance(self.window, tuple) and self.window[1] < 1:
            raise InputError(f"window={list(self.window)}; expected a width of 1 or more.")
        if self.percentile is not None and not (
            0 <= self.percentile[0] < self.percentile[1] <= 100
        ):
            raise InputError(
                f"percentile={list(self.percentile)}; expected two sorted numbers, 0 to 100, such "
                "as [0.5, 99.5]."
            )
        if self.measured is not None and not self.measured[0] < self.measured[1]:
            raise InputError(f"measured={list(self.measured)}; expected a low and a high value.")

    @property
    def low(self) -> float | None:
        """Source value that becomes 0, or None if each image declares or decides it."""
        return None if self.range is None else self.range[0]

    @property
    def high(self) -> float | None:
        """Source value that becomes 255, or None if each image declares or decides it."""
        return None if self.range is None else self.range[1]

    @property
    def range(self) -> tuple[float, float] | None:
        """Source values that become 0 and 255, or None if each image declares or decides them."""
        if isinstance(self.window, tuple):  # PS3.3 C.11.2.1.2.1
            center, width = self.window
            return center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
        if self.bits is not None:
            return 0.0, float((1 << self.bits) - 1)
        return self.measured

    @property
    def needs_range(self) -> bool:
        """Whether the range of the dataset must be measured before its first image is fitted."""
        return self.measured is None and all(getattr(self, name) is None for name in _SETTINGS)

    @property
    def applies_to_8_bits(self) -> bool:
        """Whether images of 8 bits are changed, or refused."""
        return self.window is not None or self.percentile is not None

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> GreyLevels:
        """Returns the grey levels of a dataset; older datasets have no such metadata."""
        settings = {name: metadata.get(name) for name in _SETTINGS}
        return cls(**settings, measured=metadata.get("grey_range"))

    def to_metadata(self) -> dict[str, Any]:
        """Returns what `from_metadata` reads, as JSON holds it."""
        values = {name: getattr(self, name) for name in _SETTINGS} | {"grey_range": self.measured}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    def to_grey(self, values: np.ndarray, bits: int | None) -> np.ndarray:
        """Returns the grey values uint8 of integer source values.

        All grey values of a range cover equally many source values, so 12 bits keep their
        upper 8. A window follows the formula of DICOM instead.

        Args:
          values: (H, W); not negative if `bits` is given.
          bits: What the image itself declares, if it does.

        Raises:
          BadImage: Values exceed the setting `bits`, or fewer than 32 grey levels remain of an
            image whose range is unknown.
        """
        if self.percentile is not None:
            return _stretch(values, self.percentile)
        if self.window is None and bits is None:
            self.check_bits(values)
        grey = map_parts(lambda part: self._map_levels(part, bits), values)
        if bits is None and self.needs_range:
            check_levels_remain(values, grey)
        return grey

    def _map_levels(self, values: np.ndarray, bits: int | None) -> np.ndarray:
        if isinstance(self.window, tuple):
            return np.floor(apply_window(values, *self.window) * 255 + 0.5)
        if bits is not None:
            upper = values >> bits - 8 if bits > 8 else values << 8 - bits
            return np.minimum(upper, 255)
        low, high = self.range or (0.0, float((1 << MAX_BITS) - 1))
        scaled = (np.asarray(values, np.float32) - low) * (256 / (high - low + 1))
        return np.clip(scaled, 0, 255)

    def check_bits(self, values: np.ndarray) -> None:
        """Raises BadImage for values that exceed the setting `bits`, a few pixels excepted."""
        if self.bits is None or values.max() < 1 << self.bits:
            return
        if (highest := robust_range(values)[1]) >= 1 << self.bits:
            raise BadImage(
                f"values up to {highest:g}, but bits={self.bits} allows up to "
                f"{(1 << self.bits) - 1}; set bits to {int(highest).bit_length()} or more"
            )

    def stretch(self, grey: np.ndarray) -> np.ndarray:
        """Returns the grey values uint8 of an image of 8 bits.

        Raises:
          BadImage: A window is set.
        """
        self.check_depth(8)
        return grey if self.percentile is None else _stretch(grey, self.percentile)

    def check_depth(self, bits: int) -> None:
        """Raises BadImage if a window is set and an image has 8 bits or fewer."""
        if isinstance(self.window, tuple) and bits <= 8:
            center, width = self.window
            raise BadImage(
                f"an image of {bits} bits, but the window (center {center:g}, width {width:g}) "
                "applies to source values of more than 8 bits; use the original file, or a dataset "
                "without the setting window"
            )


def _as_pair(name: str, value: Any) -> tuple[float, float]:
    pair = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if len(pair) != 2 or not all(type(v) in (int, float) and math.isfinite(v) for v in pair):
        raise InputError(f"{name}={value!r}; expected two numbers.")
    return float(pair[0]), float(pair[1])


def _stretch(values: np.ndarray, percentile: tuple[float, float]) -> np.ndarray:
    low, high = map(float, np.percentile(values, percentile))  # NumPy 2 would compute in float64

    def stretch(part: np.ndarray) -> np.ndarray:
        scaled = (np.asarray(part, np.float32) - low) * (255 / max(high - low, 1e-6))
        return np.clip(scaled, 0, 255) + 0.5

    return map_parts(stretch, values)


def map_parts(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
    """Returns the results of `function`, of single values, as uint8 in the shape of `values`.

    Intermediate arrays, of up to 30 bytes a value, have a part of the image only.
    """
    grey = np.empty(values.shape, np.uint8)
    rows = max(1, _PART_VALUES // max(1, values[:1].size))
    for top in range(0, len(values), rows):
        grey[top : top + rows] = function(values[top : top + rows])
    return grey


def apply_window(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Returns values 0 to 1 by PS3.3 C.11.2.1.2, the function LINEAR; `width` is 1 or more."""
    center, width = center - 0.5, width - 1
    sloped = (values - center) / (width or 1) + 0.5
    # Clipping alone would be wrong for a window of width 1, which is a step.
    sloped = np.where(values > center + width / 2, 1, sloped)
    return np.where(values <= center - width / 2, 0, sloped)


def robust_range(values: np.ndarray) -> tuple[float, float]:
    """Returns the range of an image without its outliers.

    At most one pixel in 10,000, and always one, is below the range, and as many are above it. One
    hot or dead pixel therefore changes nothing.
    """
    flat = values.ravel()
    outliers = min(max(1, int(flat.size * _OUTLIERS)), (flat.size - 1) // 2)
    parts = np.partition(flat, (outliers, flat.size - 1 - outliers))
    return float(parts[outliers]), float(parts[flat.size - 1 - outliers])


def check_levels_remain(values: np.ndarray, grey: np.ndarray) -> None:
    """Refuses grey values that lost most levels of an image whose range is unknown.

    Raises:
      BadImage: Fewer than 32 levels remain of at least twice as many source values.
    """
    levels = np.count_nonzero(Image.fromarray(grey).histogram())  # NumPy needs 8 bytes a value
    if levels < FEW_LEVELS and len(np.unique(values)) >= _EXCESS_LEVELS * levels:
        low, high = values.min(), values.max()
        raise BadImage(
            f"no declared range, and values {low:g} to {high:g} of 16 bits would become {levels} "
            f"of 256 grey levels; expected {FEW_LEVELS} or more. Save the image with its range "
            "declared (PNG: sBIT, TIFF: bits per sample, DICOM: a window) or with 8 bits"
        )
