"""What a `.tflite` carries about itself."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.imaging.pixels import check_fit

FORMAT = "cxr-tfds-1"


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What a `.tflite` contains about itself as `model.json`."""

    labels: tuple[str, ...]  # class names, the second of two is positive; or names of findings
    size: int  # S; the model takes images (1, S, S, channels)
    channels: int  # 1 or 3
    fit: str  # how a radiograph becomes S x S, see `cxr_tfds.imaging.pixels.radiograph`
    # Of two classes, or of each finding: from here on the prediction is positive.
    threshold: float | tuple[float, ...] | None
    # Divides the logits, of each finding by its own; an `rgb` model has already applied it.
    temperature: float | tuple[float, ...]
    quantization: str  # name of the format
    runtimes: tuple[str, ...] = ()  # that can run the model; empty in files from before 2026-11
    heatmap: bool = False  # whether a second output holds the class activation map
    grid: tuple[int, int] | None = None  # height and width of the heatmap
    input: str = "grey"  # "grey" maps pixels to logits, "rgb" maps colour pixels to probabilities
    dataset: dict[str, Any] = dataclasses.field(default_factory=dict)  # name, version, fingerprint
    run: dict[str, Any] = dataclasses.field(default_factory=dict)  # name, model and environment
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)  # AUC and accuracy by split
    # By class or finding: validation images and positive ones in equal bins of the probability.
    reliability: dict[str, Any] = dataclasses.field(default_factory=dict)
    # By class or finding: thresholds and what they achieve on validation, see
    # `cxr_tfds.metrics.operating_points`. Empty in files from before 2026-11.
    operating_points: dict[str, Any] = dataclasses.field(default_factory=dict)
    # Of an `rgb` model: what its graph subtracts from logit / temperature, so that a probability of
    # 0.5 is the threshold. Of each finding its own.
    shift: float | tuple[float, ...] = 0.0
    # Of the dataset, see `GreyLevels.to_metadata`.
    grey_levels: dict[str, Any] = dataclasses.field(default_factory=dict)
    # How the source of the dataset was read, see `cxr_tfds.sources.settings`.
    reader: dict[str, Any] = dataclasses.field(default_factory=dict)
    several_findings: bool = False  # whether the labels are findings that an image may combine
    unknown: str = "ignore"  # what a finding without a state in the dataset means
    format: str = FORMAT

    def __post_init__(self) -> None:
        """Raises InputError if a field that the device uses has an impossible value."""
        for name in (
            "labels",
            "runtimes",
            "grid",
            "threshold",
            "temperature",
            "shift",
        ):  # JSON lists
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        # A class may be named like any folder.
        are_lines = all(label.strip() and len(label.splitlines()) == 1 for label in self.labels)
        least = 1 if self.several_findings else 2
        if not are_lines or len(self.labels) < least or len(set(self.labels)) < len(self.labels):
            count = "one or more" if self.several_findings else "two or more"
            raise InputError(f"labels={self.labels!r}; expected {count} names of one line.")
        check_fit(self.size, self.channels, self.fit)
        GreyLevels.from_metadata(self.grey_levels)
        if not isinstance(self.reader, dict):
            raise InputError(f"reader={self.reader!r}; expected an object.")
        if not isinstance(self.reliability, dict) or not all(
            name in self.labels and _are_counts(counts) for name, counts in self.reliability.items()
        ):
            raise InputError(
                f"reliability={self.reliability!r}; expected counts of images and positives by "
                "class."
            )
        if not isinstance(self.operating_points, dict) or not all(
            name in self.labels and isinstance(points, list) and all(map(_is_point, points))
            for name, points in self.operating_points.items()
        ):
            raise InputError(
                f"operating_points={self.operating_points!r}; expected thresholds with sensitivity "
                "and specificity by class."
            )
        if self.several_findings:
            self._check_findings()
            return
        if len(self.labels) > 2 and self.threshold is not None:
            raise InputError(
                f"threshold={self.threshold}; expected None for {len(self.labels)} classes."
            )
        if len(self.labels) == 2 and not _is_probability(self.threshold):
            raise InputError(f"threshold={self.threshold}; expected 0 to 1.")
        if not _is_temperature(self.temperature):
            raise InputError(f"temperature={self.temperature}; expected a positive number.")
        if not _is_finite(self.shift):
            raise InputError(f"shift={self.shift}; expected a number.")

    def _check_findings(self) -> None:
        count = len(self.labels)
        checks = (("threshold", _is_probability, "0 to 1"), ("temperature", _is_temperature, "> 0"))
        for name, is_valid, expected in checks:
            values = getattr(self, name)
            if (
                not isinstance(values, tuple)
                or len(values) != count
                or not all(map(is_valid, values))
            ):
                raise InputError(
                    f"{name}={values}; expected {count} numbers, {expected}, one for each finding."
                )
        shifts = self.shift if isinstance(self.shift, tuple) else (self.shift,) * count
        if len(shifts) != count or not all(map(_is_finite, shifts)):
            raise InputError(f"shift={self.shift}; expected {count} numbers.")
        if self.unknown not in ("ignore", "positive", "negative"):
            raise InputError(f"unknown={self.unknown!r}; expected ignore, positive or negative.")


def _is_probability(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _are_counts(counts: Any) -> bool:
    """Returns whether these are `images` and at most as many `positives` in the same bins."""
    if not isinstance(counts, dict):
        return False
    images, positives = counts.get("images"), counts.get("positives")
    return (
        isinstance(images, list)
        and isinstance(positives, list)
        and 0 < len(images) == len(positives)
        and all(type(x) is int for x in [*images, *positives])
        and all(0 <= y <= x for x, y in zip(images, positives, strict=True))
    )


def _is_point(point: Any) -> bool:
    return isinstance(point, dict) and all(
        _is_probability(point.get(name)) for name in ("threshold", "sensitivity", "specificity")
    )


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_temperature(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf
