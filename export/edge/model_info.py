"""What a `.tflite` carries about itself."""

from __future__ import annotations

import dataclasses
from typing import Annotated, TypedDict

from msgspec import Meta

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.imaging.pixels import check_fit
from cxr_tfds.schema import (
    AtLeastOne,
    Count,
    Finite,
    GreyLevelSettings,
    Origin,
    Policy,
    Probability,
    ReaderOptions,
    Temperature,
    Text,
    check_fields,
)

FORMAT = "cxr-tfds-1"


class DatasetIdentity(TypedDict, total=False):
    """The dataset of a model."""

    name: Text
    version: str  # in files from before 2026-11; since then it is a part of the name
    fingerprint: Text
    origin: Origin


class RunIdentity(TypedDict, total=False):
    """The run of a model."""

    name: Text
    model: Text
    environment: dict[str, str]  # versions of the software used for training
    threshold_rule: Text
    float_layers: list[str]


class SplitRates(TypedDict, total=False):
    """The metrics of a split, or of a finding in it."""

    auc: Probability | None
    accuracy: Probability | None
    findings: dict[str, SplitRates]


class BinCounts(TypedDict):
    """Images in equal bins of the probability, and the positive ones among them."""

    images: Annotated[list[Count], Meta(min_length=1)]
    positives: Annotated[list[Count], Meta(min_length=1)]


class OperatingPoint(TypedDict):
    """A threshold and what it achieves, see `cxr_tfds.metrics.operating_points`."""

    rule: Text
    threshold: Probability
    sensitivity: Probability
    specificity: Probability
    positives: Count
    negatives: Count


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What a `.tflite` contains about itself as `model.json`.

    Raises:
      InputError: A field has an impossible value, or contradicts another one.
    """

    labels: tuple[str, ...]  # class names, the second of two is positive; or names of findings
    size: int  # S; the model takes images (1, S, S, channels)
    channels: int  # 1 or 3
    fit: str  # how a radiograph becomes S x S, see `cxr_tfds.imaging.pixels.radiograph`
    # Of two classes, or of each finding: from here on the prediction is positive.
    threshold: Probability | tuple[Probability, ...] | None
    # Divides the logits, of each finding by its own; an `rgb` model has already applied it.
    temperature: Temperature | tuple[Temperature, ...]
    quantization: Text  # name of the format
    runtimes: tuple[Text, ...] = ()  # that can run the model; empty in files from before 2026-11
    heatmap: bool = False  # whether a second output holds the class activation map
    grid: tuple[AtLeastOne, AtLeastOne] | None = None  # height and width of the heatmap
    # "grey" maps pixels to logits, "rgb" maps colour pixels to probabilities
    input: Annotated[str, Meta(pattern="^(grey|rgb)$")] = "grey"
    dataset: DatasetIdentity = dataclasses.field(default_factory=DatasetIdentity)
    run: RunIdentity = dataclasses.field(default_factory=RunIdentity)
    metrics: dict[str, SplitRates] = dataclasses.field(default_factory=dict)  # by split
    # By class or finding, on validation.
    reliability: dict[str, BinCounts] = dataclasses.field(default_factory=dict)
    # By class or finding, on validation. Empty in files from before 2026-11.
    operating_points: dict[str, list[OperatingPoint]] = dataclasses.field(default_factory=dict)
    # Of an `rgb` model: what its graph subtracts from logit / temperature, so that a probability of
    # 0.5 is the threshold. Of each finding its own.
    shift: Finite | tuple[Finite, ...] = 0.0
    # Of the dataset, see `GreyLevels.to_metadata`.
    grey_levels: GreyLevelSettings = dataclasses.field(default_factory=GreyLevelSettings)
    # How the source of the dataset was read, see `cxr_tfds.sources.settings`.
    reader: ReaderOptions = dataclasses.field(default_factory=ReaderOptions)
    several_findings: bool = False  # whether the labels are findings that an image may combine
    unknown: Policy = "ignore"  # what a finding without a state in the dataset means
    format: str = FORMAT

    def __post_init__(self) -> None:
        check_fields(self)
        # A class may be named like any folder.
        are_lines = all(label.strip() and len(label.splitlines()) == 1 for label in self.labels)
        least = 1 if self.several_findings else 2
        if not are_lines or len(self.labels) < least or len(set(self.labels)) < len(self.labels):
            count = "one or more" if self.several_findings else "two or more"
            raise InputError(f"labels={self.labels!r}; expected {count} names of one line.")
        check_fit(self.size, self.channels, self.fit)
        GreyLevels.from_metadata(self.grey_levels)
        if self.heatmap != (self.grid is not None):
            raise InputError(f"grid={self.grid!r}; expected two numbers with a heatmap only.")
        for name in ("reliability", "operating_points"):
            if unknown := getattr(self, name).keys() - set(self.labels):
                raise InputError(f"{name} has {', '.join(unknown)}, which is not a label.")
        for name, counts in self.reliability.items():
            images, positives = counts["images"], counts["positives"]
            if len(images) != len(positives) or any(map(int.__lt__, images, positives)):
                raise InputError(
                    f"reliability of {name}={counts!r}; expected at most as many positives as "
                    "images in each bin."
                )
        self._check_numbers()

    def _check_numbers(self) -> None:
        """Checks how many thresholds, temperatures and shifts there are."""
        count = len(self.labels)
        if self.several_findings:
            shift = self.shift if isinstance(self.shift, tuple) else (self.shift,) * count
            for name in ("threshold", "temperature", "shift"):
                value = shift if name == "shift" else getattr(self, name)
                if not isinstance(value, tuple) or len(value) != count:
                    raise InputError(
                        f"{name}={value}; expected {count} numbers, one for each finding."
                    )
            return
        for name in ("threshold", "temperature", "shift"):
            if isinstance(value := getattr(self, name), tuple):
                raise InputError(f"{name}={value}; expected one number.")
        if (self.threshold is None) != (count > 2):
            expected = f"None for {count} classes" if count > 2 else "0 to 1"
            raise InputError(f"threshold={self.threshold}; expected {expected}.")
