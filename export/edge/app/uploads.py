"""Predicts the images that someone drops on the page. No Streamlit."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from cxr_tfds.errors import BadImage
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.imaging.overlay import OPACITY, colour_layer
from cxr_tfds.imaging.pixels import Radiograph, upright_grey
from cxr_tfds.phantom.drawing import draw

from ..classifier import Classifier
from ..model_file import read_model
from ..output import make_style
from ..prediction import Prediction

MAX_FILES, MAX_MEGABYTES = 100, 64
_LONGEST, _THUMBNAIL = 768, 72  # pixels of the longer side of pictures on the page
# Name, finding and seed of each drawn example.
_EXAMPLES = (
    ("drawn-clear.png", "none", 11),
    ("drawn-focal-opacity.png", "bacteria", 5),
    ("drawn-diffuse-opacity.png", "virus", 3),
    ("drawn-clear-2.png", "none", 8),
)


class OpenModel(NamedTuple):
    """A model that is ready to predict, and its model card in Markdown."""

    classifier: Classifier
    card: str | None


class Result(NamedTuple):
    """A file with its prediction, or why it has none."""

    name: str
    data: bytes
    outcome: Prediction | BadImage
    thumbnail: Image.Image | None = None  # of a readable image


@functools.cache
def open_model(path: Path) -> OpenModel:
    """Returns a model, loaded once for all visitors. Raises the errors of `Classifier`."""
    return OpenModel(Classifier(path), read_model(path).card)


@functools.cache
def draw_examples() -> dict[str, bytes]:
    """Returns drawn radiographs as PNG files by name. They show no patient."""
    files = {}
    for name, finding, seed in _EXAMPLES:
        file = io.BytesIO()
        Image.fromarray(draw(finding, np.random.default_rng(seed))).save(file, "PNG")
        files[name] = file.getvalue()
    return files


@functools.cache
def example_thumbnails() -> list[Image.Image]:
    """Returns the drawn radiographs, small."""
    return [upright_grey(data, 2 * _THUMBNAIL) for data in draw_examples().values()]


def predict(classifier: Classifier, name: str, data: bytes) -> Result:
    """Returns the result for the contents of a file."""
    image = classifier.decode(data)
    if isinstance(image, BadImage):
        return Result(name, data, image)
    return Result(name, data, classifier.predict(image.pixels), _make_thumbnail(image))


def _make_thumbnail(image: Radiograph) -> Image.Image:
    scale = _THUMBNAIL / max(image.width, image.height)
    sides = max(1, round(scale * image.width)), max(1, round(scale * image.height))
    return Image.fromarray(image.pixels[..., 0]).resize(sides, Image.Resampling.BILINEAR)


def with_thresholds(result: Result, thresholds: Mapping[str, float]) -> Result:
    """Returns the result with decisions at other thresholds, given by class or finding."""
    prediction = result.outcome
    if isinstance(prediction, BadImage) or not thresholds:
        return result
    if prediction.findings:
        findings = tuple(
            dataclasses.replace(
                x, threshold=thresholds[x.name], is_present=x.probability >= thresholds[x.name]
            )
            for x in prediction.findings
        )
        label = "|".join(x.name for x in findings if x.is_present)
        return result._replace(
            outcome=dataclasses.replace(prediction, findings=findings, label=label)
        )
    (positive, threshold), *_ = thresholds.items()
    negative = next(name for name in prediction.probabilities if name != positive)
    label = positive if prediction.probability >= threshold else negative
    return result._replace(
        outcome=dataclasses.replace(prediction, threshold=threshold, label=label)
    )


def to_csv(classifier: Classifier, results: Iterable[Result]) -> str:
    """Returns results as `cxr-infer predict --csv` prints them."""
    style = make_style("csv", classifier.info)
    rows = (style.format(result.name, result.outcome) for result in results)
    return "".join([*style.frame, *rows])


def to_picture(classifier: Classifier, result: Result) -> Image.Image:
    """Returns a readable image as the model sees it, in mode L, in the shape of its file."""
    levels = GreyLevels.from_metadata(classifier.info.grey_levels)
    return upright_grey(result.data, _LONGEST, levels=levels)


def blend(picture: Image.Image, heatmap: np.ndarray, fit: str, opacity: float) -> Image.Image:
    """Returns a picture of mode L under a heat map, in mode RGB.

    The strongest colour has `opacity`, 0 to 1; with `OPACITY` this is an `overlay`.
    """
    colours = colour_layer(picture.size, heatmap, fit)
    mask = colours.getchannel("A").point(lambda value: min(255, round(value * opacity / OPACITY)))
    blended = picture.convert("RGB")
    blended.paste(colours, (0, 0), mask)
    return blended
