"""A `.tflite` as a function from a radiograph to a prediction."""

from __future__ import annotations

import dataclasses
import math
import threading
from os import PathLike

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.pixels import radiograph

from . import runtime as interpreters
from .files import content_of
from .model_file import read_model
from .runtime import OUTPUT, PROBABILITIES


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The answer for one radiograph."""

    probability: float  # two classes: of the finding, whatever the label; more: of the label
    label: str
    threshold: float | None  # two classes: the finding from this probability on; more: None
    probabilities: tuple[float, ...]  # of each class, in class order
    # float32 (h, w), None from a model without: what each place adds to the logit of the finding, or,
    # with more than two classes, of the label. Its mean is that logit less a constant of the model.
    heatmap: np.ndarray | None = dataclasses.field(default=None, compare=False, repr=False)


class Classifier:
    """Answers image files with predictions; may be shared between threads.

        model = Classifier("model.tflite")
        model("x.jpg").label

    Attributes:
      card: what the model says of itself.
      labels: class names in class order.
      runtime: name of the interpreter in use, "litert" or "tflite-runtime".
      version: of the interpreter.

    Raises:
      MissingData: there is no such file.
      InputError: the file is no model of cxr-export or damaged, or no interpreter can run it.
    """

    def __init__(
        self, path: str | PathLike[str] | bytes, runtime: str = "auto", threads: int = 1
    ) -> None:
        flatbuffer, self.card = read_model(path)
        self.labels = self.card.labels
        name = interpreters.choose(runtime)
        if self.card.runtimes and name not in self.card.runtimes:
            raise InputError(
                f"The model was exported for {' and '.join(self.card.runtimes)} only, not for {name}. Use that "
                "(pip install 'cxr-tfds[edge]' installs litert), or export it in another format."
            )
        self._session = interpreters.load(flatbuffer, name, threads)
        self._lock = threading.Lock()
        self.runtime = self._session.name
        self.version = self._session.version
        side, channels = self.card.size, self.card.channels
        gives = OUTPUT if self.card.input == "grey" else PROBABILITIES
        expected = (1, side, side, channels), self.card.outputs, gives
        found = self._session.shape, self._session.outputs, self._session.output
        if found != expected:
            raise InputError(
                f"The model takes {found[0]} and gives {found[1]} {found[2]}; "
                f"its card says {expected[0]} and {expected[1]} {gives} ({', '.join(self.labels)}). "
                "Export it again with cxr-export."
            )
        if self._session.grid != self.card.grid:
            raise InputError(
                f"The model's heatmap is {self._session.grid}; its card says {self.card.grid}. "
                "Export it again with cxr-export."
            )

    def __call__(self, image: str | PathLike[str] | bytes) -> Prediction:
        """The prediction for an image file, given as path or content.

        Raises:
          BadImage: the file holds no usable radiograph.
          InputError: the path cannot be read, or the model gives no number.
          MissingData: there is no such file.
        """
        return self.predict(self.pixels(image))

    def pixels(self, image: str | PathLike[str] | bytes) -> np.ndarray:
        """The radiograph as the model takes it, uint8 (S, S, C), 0 to 255. Raises as a call does."""
        data = image if isinstance(image, bytes) else content_of(image, "an image file")
        return radiograph(
            data, self.card.size, fit=self.card.fit, channels=self.card.channels
        ).pixels

    def predict(self, pixels: np.ndarray) -> Prediction:
        """The prediction for a radiograph that `pixels` made."""
        if self._session.grid is None:
            return self.prediction(self.answer(pixels))
        with self._lock:
            given, heatmap = self._session.run_with_heatmap(pixels[np.newaxis])
        answer = self.prediction(given)
        if heatmap.ndim == 3:
            heatmap = heatmap[..., self.labels.index(answer.label)]
        return dataclasses.replace(answer, heatmap=heatmap)

    def answer(self, pixels: np.ndarray) -> np.ndarray:
        """What the model gives, float32.

        Logits, not yet calibrated: (1,) of the finding for two classes, (K,) for K > 2. Or, from a model whose
        input is rgb, probabilities (K,).

        Raises:
          InputError: the pixels are not uint8 (S, S, C).
        """
        with self._lock:
            return self._session.run(pixels[np.newaxis])

    def prediction(self, answer: np.ndarray) -> Prediction:
        """What `answer` means under the card's temperature, threshold and labels.

        Raises:
          InputError: a number in it is not finite.
        """
        values = [float(value) for value in answer]
        if not all(map(math.isfinite, values)):
            expected = f"finite {self._session.output}"
            raise InputError(
                f"The model gives {values}; expected {expected}. Export it again with cxr-export."
            )
        probabilities = tuple(values) if self.card.input == "rgb" else self._calibrated(values)
        if self.card.threshold is not None:
            finding = probabilities[1]
            label = self.labels[int(finding >= self.card.threshold)]
            return Prediction(finding, label, self.card.threshold, probabilities)
        best = values.index(max(values))
        return Prediction(probabilities[best], self.labels[best], None, probabilities)

    def _calibrated(self, logits: list[float]) -> tuple[float, ...]:
        """The probability of each class."""
        if len(logits) == 1:
            finding = _sigmoid(logits[0] / self.card.temperature)
            return 1 - finding, finding
        # Differences first: two logits divided by a tiny temperature may both be infinite.
        largest = max(logits)
        powers = [math.exp((logit - largest) / self.card.temperature) for logit in logits]
        return tuple(power / sum(powers) for power in powers)


def _sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)) without overflow."""
    power = math.exp(-abs(value))
    return 1 / (1 + power) if value >= 0 else power / (1 + power)
