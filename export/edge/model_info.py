"""Describes an exported model: what the device must know to use it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.pixels import check_fit

FORMAT = "cxr-tfds-1"
QUANTIZATIONS = ("float32", "float16", "dynamic", "int8", "int8-float-io", "int16x8")


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
        """Raises InputError if the labels, the threshold or the temperature cannot be used."""
        for name in ("labels", "runtimes", "grid"):  # lists in JSON
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        # A class may be named like any folder.
        are_lines = all(label.strip() and len(label.splitlines()) == 1 for label in self.labels)
        if not are_lines or len(self.labels) < 2 or len(set(self.labels)) < len(self.labels):
            raise InputError(f"labels={self.labels!r}; expected two or more names of one line.")
        check_fit(self.size, self.channels, self.fit)
        if len(self.labels) > 2 and self.threshold is not None:
            raise InputError(
                f"threshold={self.threshold}; expected None for {len(self.labels)} classes."
            )
        if len(self.labels) == 2 and not (self.threshold is not None and 0 <= self.threshold <= 1):
            raise InputError(f"threshold={self.threshold}; expected 0 to 1.")
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature={self.temperature}; expected a positive number.")
