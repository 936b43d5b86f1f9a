"""Describes an exported model: what the device must know to use it."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.pixels import check_fit

FORMAT = "cxr-tfds-1"
QUANTIZATIONS = ("float32", "float16", "dynamic", "int8", "int8-float-io", "int16x8")
INPUTS = ("grey", "rgb")
_DICTIONARIES = ("dataset", "run", "metrics")


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What a `.tflite` contains about itself as `model.json`.

    Attributes:
      labels: Class names in class order. Of two, the second is the finding.
      size: S; the model takes images (1, S, S, channels).
      channels: 1 or 3.
      fit: How a radiograph becomes S x S, see `cxr_tfds.imaging.pixels.radiograph`.
      threshold: Two classes: the finding is predicted from this probability on. Otherwise None.
      temperature: Probabilities are the sigmoid or softmax of logits / temperature. An `rgb` model
        has already applied it.
      quantization: One of `QUANTIZATIONS`.
      runtimes: Runtimes that can run the model, keys of `runtime.RUNTIMES`. Empty in files written
        before 2026-11.
      heatmap: Whether a second output holds the class activation map.
      grid: Height and width of the heatmap, or None.
      input: "grey" maps pixels to logits, "rgb" maps colour pixels to probabilities.
      dataset: Name, version and fingerprint of the dataset.
      run: The run folder's name, model and environment.
      metrics: AUC and accuracy by split.
      format: `FORMAT`.
    """

    labels: tuple[str, ...]
    size: int
    channels: int
    fit: str
    threshold: float | None
    temperature: float
    quantization: str
    runtimes: tuple[str, ...] = ()
    heatmap: bool = False
    grid: tuple[int, int] | None = None
    input: str = "grey"
    dataset: dict[str, Any] = dataclasses.field(default_factory=dict)
    run: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    format: str = FORMAT

    def __post_init__(self) -> None:
        """Raises InputError if a field is not as described."""
        check_format(self.format)
        for name in ("labels", "runtimes", "grid"):  # lists in JSON
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        if not _are_labels(self.labels):
            raise InputError(f"labels={self.labels!r}; expected two or more names of one line.")
        check_fit(self.size, self.channels, self.fit)
        is_binary = len(self.labels) == 2
        checks = (
            ("threshold", not is_binary or _is_number(self.threshold, 0, 1), "0 to 1"),
            ("threshold", is_binary or self.threshold is None, "None for more than two classes"),
            ("temperature", _is_number(self.temperature, sys.float_info.min), "a positive number"),
            ("input", self.input in INPUTS, " or ".join(INPUTS)),
            ("channels", self.input == "grey" or self.channels == 3, "3 for the input rgb"),
            ("quantization", self.quantization in QUANTIZATIONS, ", ".join(QUANTIZATIONS)),
            ("runtimes", _are_texts(self.runtimes), "names of runtimes"),
            ("grid", self.heatmap or self.grid is None, "None without a heatmap"),
            ("grid", not self.heatmap or _is_grid(self.grid), "height and width of the heatmap"),
            *((x, isinstance(getattr(self, x), dict), "a dictionary") for x in _DICTIONARIES),
        )
        for name, is_valid, expected in checks:
            if not is_valid:
                raise InputError(f"{name}={getattr(self, name)!r}; expected {expected}.")

    @property
    def outputs(self) -> int:
        """Number of logits (1 for two classes) or, for `rgb`, of probabilities."""
        return 1 if len(self.labels) == 2 and self.input == "grey" else len(self.labels)


def check_format(found: Any) -> None:
    """Raises InputError for formats other than `FORMAT`: their fields may have other names."""
    if found != FORMAT:
        raise InputError(
            f"format={found!r}; this version reads {FORMAT!r}. Install the version of cxr-tfds "
            "that wrote the model."
        )


def _are_texts(values: Any) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, str) for value in values)


def _are_labels(labels: Any) -> bool:
    return (
        _are_texts(labels)
        and len(set(labels)) == len(labels) >= 2
        and all(label.strip() and len(label.splitlines()) == 1 for label in labels)
    )


def _is_grid(grid: Any) -> bool:
    sides = grid if isinstance(grid, tuple) else ()
    return len(sides) == 2 and all(type(side) is int and side > 0 for side in sides)


def _is_number(value: Any, low: float, high: float = sys.float_info.max) -> bool:
    return type(value) in (int, float) and low <= value <= high
