"""Predicts radiographs with an exported model."""

from __future__ import annotations

import dataclasses
import functools
import threading
from os import PathLike
from typing import Any, overload

import numpy as np

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.imaging.pixels import DecodeResult, Radiograph, decode
from cxr_tfds.metrics.logits import probabilities, sigmoid
from cxr_tfds.parallel import all_cores, core_count, ordered_map

from . import runtime as runtimes
from .image_input import ImageInput, read_image
from .model_file import read_model
from .prediction import FindingPrediction, Prediction


class Classifier:
    """Predicts radiographs: `Classifier("model.tflite")("x.jpg").label`.

    Threads may share it. Threads that predict at the same time have an interpreter each, at most
    one for each core.

    Args:
      path: The `.tflite` of cxr-export, or its contents.
      runtime: "litert", "tflite-runtime", or "auto", which prefers litert.
      threads: Number of threads of the runtime.
      threshold: Probability from which the positive class or any finding is predicted, or the rule
        of an operating point of the file, such as "youden". None keeps the threshold of the file.
      sensitivity: Takes the most specific operating point of the file that has at least this
        sensitivity on validation, such as 0.95.
      trust: File of the Ed25519 public key that must have signed the model. None takes the
        environment variable CXR_TFDS_TRUST; without it, unsigned models are accepted.

    Attributes:
      info: The model info, with the threshold in use.
      labels: Class names in class order, or names of the findings.
      runtime: Name of the runtime in use, "litert" or "tflite-runtime".
      version: Version of the runtime.

    Raises:
      MissingData: The file does not exist.
      InputError: The file is not a model of cxr-export, is corrupt, is not signed by `trust`, has
        no such operating point, or no runtime can run it.
    """

    def __init__(
        self,
        path: str | PathLike[str] | bytes,
        runtime: str = "auto",
        threads: int = 1,
        *,
        threshold: float | str | None = None,
        sensitivity: float | None = None,
        trust: str | PathLike[str] | None = None,
    ) -> None:
        flatbuffer, info, _ = read_model(path, trust)
        if threshold is not None or sensitivity is not None:
            from .operating_point import choose_threshold

            info = choose_threshold(info, threshold, sensitivity)
        self.info = info
        self.labels = self.info.labels
        self._grey_levels = GreyLevels.from_metadata(self.info.grey_levels)
        name = runtimes.choose_runtime(runtime)
        if self.info.runtimes and name not in self.info.runtimes:
            raise InputError(
                f"The model was exported for {' and '.join(self.info.runtimes)} only, not for "
                f"{name}. Install litert with pip install 'cxr-tfds[edge]', or export the model in "
                "another format."
            )
        self._load = functools.partial(runtimes.load, flatbuffer, name, threads)
        session = self._load()
        self._idle = [session]  # sessions that no thread uses now
        self._turns = threading.Semaphore(core_count())
        self._output = session.output
        self.runtime = session.name
        self.version = session.version

    @property
    def threshold(self) -> float | tuple[float, ...] | None:
        """The probability from which the positive class, or each finding, is predicted.

        None for more than two classes: the most probable one is predicted.
        """
        return self.info.threshold

    def __repr__(self) -> str:
        info = self.info
        return (
            f"Classifier(labels={self.labels}, threshold={self.threshold}, size={info.size}, "
            f"input={info.input!r}, quantization={info.quantization!r}, "
            f"runtime='{self.runtime} {self.version}')"
        )

    @overload
    def __call__(self, image: ImageInput) -> Prediction: ...

    @overload
    def __call__(self, image: list[Any] | tuple[Any, ...]) -> list[Prediction]: ...

    def __call__(
        self, image: ImageInput | list[Any] | tuple[Any, ...]
    ) -> Prediction | list[Prediction]:
        """Returns the prediction for an image, or the predictions for a list of images.

        The same image gives the same prediction, however it is given. The exception is an array, or
        a changed Pillow image, that was decoded from a JPEG file: files are decoded at a reduced
        size, which changes grey values by a few levels.

        Args:
          image: A path, or the contents of a file; a Pillow image; or a NumPy array uint8 (0 to
            255) or uint16 (0 to 65535), of shape (H, W), (H, W, 1) or (H, W, 3), bone is bright
            (MONOCHROME2). The grey values of uint16 follow the grey levels of the model. A list or
            tuple holds several images, which are decoded on all cores.

        Raises:
          BadImage: The file contains no usable radiograph.
          MissingData: The file does not exist.
          InputError: The file cannot be read, the image is none of these, or the model returns NaN.
        """
        if isinstance(image, (list, tuple)):
            with all_cores() as pool:
                return [self.predict(r.pixels) for r in ordered_map(self.read, image, pool)]
        return self.predict(self.read(image).pixels)

    def read(self, image: ImageInput) -> Radiograph:
        """Returns the radiograph as the model takes it. Raises the errors of a call."""
        data, name = read_image(image)
        result = self.decode(data)
        if isinstance(result, BadImage):
            raise BadImage(result.reason, name)
        return result

    def decode(self, data: bytes) -> DecodeResult:
        """Returns the radiograph in the contents of a file, or why there is none."""
        info = self.info
        return decode(
            data, info.size, fit=info.fit, channels=info.channels, levels=self._grey_levels
        )

    def predict(self, pixels: np.ndarray) -> Prediction:
        """Returns the prediction for pixels uint8 (S, S, C), 0 to 255, as `read` returns them."""
        with self._turns:
            session = self._take_session()
            try:
                output, heatmap = session.run_with_heatmap(pixels[np.newaxis])
            finally:
                self._idle.append(session)
        prediction = self.interpret(output)
        if prediction.findings:
            return prediction if heatmap is None else _with_heatmaps(prediction, heatmap)
        if heatmap is not None and heatmap.ndim == 3:
            heatmap = heatmap[..., self.labels.index(prediction.label)]
        return dataclasses.replace(prediction, heatmap=heatmap)

    def _take_session(self) -> runtimes.Session:
        """Returns a session that no other thread uses; threads need one each."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._load()

    def interpret(self, output: np.ndarray) -> Prediction:
        """Returns the prediction, without a heatmap, for an output of `runtime.Session`."""
        values = np.asarray(output, np.float64)
        if not np.isfinite(values).all():
            raise InputError(
                f"The model returns {values.tolist()}; expected finite {self._output}. "
                "Export it again with cxr-export."
            )
        if self.info.input == "rgb" and np.any(self.info.shift):
            values = _undo_shift(values, self.info.shift)
        if self.info.several_findings:
            return self._interpret_findings(values)
        if self.info.input == "grey" and len(values) == 1:
            (positive,) = probabilities(values, self.info.temperature)
            values = np.array([1 - positive, positive])
        elif self.info.input == "grey":
            (values,) = probabilities(values[np.newaxis], self.info.temperature)
        scores, threshold = values.tolist(), self.info.threshold
        by_name = dict(zip(self.labels, scores, strict=True))
        if not isinstance(threshold, int | float):
            best = int(np.argmax(values))
            return Prediction(scores[best], self.labels[best], None, by_name)
        label = self.labels[int(scores[1] >= threshold)]
        return Prediction(scores[1], label, threshold, by_name)

    def _interpret_findings(self, values: np.ndarray) -> Prediction:
        if self.info.input == "grey":
            values = probabilities(values, self.info.temperature, several_findings=True)
        scores = values.tolist()
        thresholds: Any = self.info.threshold
        findings = tuple(
            FindingPrediction(name, score, threshold, score >= threshold)
            for name, score, threshold in zip(self.labels, scores, thresholds, strict=True)
        )
        label = "|".join(finding.name for finding in findings if finding.is_present)
        by_name = dict(zip(self.labels, scores, strict=True))
        return Prediction(max(scores), label, None, by_name, findings=findings)


def _undo_shift(values: np.ndarray, shift: float | tuple[float, ...]) -> np.ndarray:
    """Returns the probabilities of an `rgb` model as temperature scaling gives them.

    Args:
      values: Probabilities (K,) of findings, or (2,) of a negative and a positive class.
      shift: What the model subtracts from the logit, see `ModelInfo`.
    """
    smallest = np.finfo(np.float32).tiny
    if isinstance(shift, tuple):
        opposite, positive = 1 - values, values
    else:
        opposite, positive = values
    shifted = np.log(np.maximum(positive, smallest)) - np.log(np.maximum(opposite, smallest))
    logits = np.atleast_1d(shifted + np.asarray(shift))
    if isinstance(shift, tuple):
        return probabilities(logits, several_findings=True)
    return np.concatenate([sigmoid(-logits), sigmoid(logits)])


def _with_heatmaps(prediction: Prediction, heatmaps: np.ndarray) -> Prediction:
    """Returns the prediction with the heatmap of each finding, (h, w, K), or (h, w) for K = 1."""
    by_finding = np.moveaxis(np.atleast_3d(heatmaps), -1, 0)
    findings = tuple(
        dataclasses.replace(finding, heatmap=heatmap)
        for finding, heatmap in zip(prediction.findings, by_finding, strict=True)
    )
    return dataclasses.replace(prediction, findings=findings)
