"""Radiographs that the model classified correctly or wrongly, with class activation maps."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont

from cxr_tfds.evaluation.activation import activation_maps
from cxr_tfds.evaluation.scoring import ImageSample, Scores, Threshold
from cxr_tfds.imaging.overlay import overlay
from cxr_tfds.metrics.logits import logit
from cxr_tfds.plotting import CLASS_COLOURS, INK, MUTED, PAPER, Picture
from cxr_tfds.text import percent

_MAX_ERRORS, _MAX_CORRECT = 8, 4  # images of a group
_MAX_ERRORS_EACH, _MAX_CORRECT_EACH = 4, 2  # the same, for each of several findings
_SIDE = 224  # pixels; larger images are reduced
_QUALITY = 88
_GAP, _HEAD = 6, 62  # pixels between the images of a sheet, and above them


class Example(NamedTuple):
    """An image and its prediction."""

    images: list[Image.Image]  # the radiograph, then its class activation map if the model has one
    true_class: str
    predicted_class: str
    probability: float  # of the finding, or for K > 2 of the predicted class
    image_id: str


class Group(NamedTuple):
    """Examples of one kind, at least one."""

    name: str  # of the picture
    title: str
    correct: bool
    examples: list[Example]
    total: int  # number of images to choose from
    positive: str = ""  # whose probability is shown; "" is the predicted class


def collect_examples(
    model: Any,
    scores: Scores,
    sample: ImageSample,
    labels: tuple[str, ...],
    threshold: Threshold,
) -> tuple[list[Group], list[Picture]]:
    """Returns errors, most confident first, and correct predictions; and each group as a picture.

    `scores` are the scores of a complete split, `sample` its images to choose from. Several
    findings have groups of their own.
    """
    scores = scores.select(sample.indices)
    if isinstance(threshold, tuple):
        groups = []
        for number, name in enumerate(labels):
            counted, alone = scores.of_finding(number)
            states = f"{name} absent", f"{name} present"
            finding = _Finding(name, number, counted)
            groups += _collect(model, alone, sample, states, threshold[number], finding)
    else:
        groups = _collect(model, scores, sample, labels, threshold)
    return groups, [_draw_sheet(group) for group in groups]


class _Finding(NamedTuple):
    """One of several findings."""

    name: str
    number: int
    images: np.ndarray  # where it counts, as numbers in the sample


def _collect(
    model: Any,
    scores: Scores,
    sample: ImageSample,
    labels: tuple[str, ...],
    threshold: float | None,
    finding: _Finding | None = None,
) -> list[Group]:
    predicted, values = scores.decisions(threshold), scores.probabilities
    if threshold is None:
        confidence = values = values.max(axis=1)
    else:
        confidence = np.abs(scores.logits - logit(threshold, 1e-9) * scores.temperature)
    most_errors, most_correct = _MAX_ERRORS, _MAX_CORRECT
    if finding is not None:
        most_errors, most_correct = _MAX_ERRORS_EACH, _MAX_CORRECT_EACH
    groups = []
    for name, title, correct, mask in _kinds(scores.labels, predicted, labels):
        members = np.flatnonzero(mask)
        if not len(members):
            continue
        chosen = members[np.argsort(-confidence[members], kind="stable")]
        if correct:  # evenly spread over the confidence
            count = min(most_correct, len(chosen))
            chosen = chosen[np.linspace(0, len(chosen) - 1, count).round().astype(int)]
        chosen = chosen[:most_errors]
        images = sample.images[chosen if finding is None else finding.images[chosen]]
        maps = activation_maps(model, images)
        examples = []
        for row, index in enumerate(chosen):
            label, pixels = int(predicted[index]), images[row]
            pictures = [Image.fromarray(pixels[..., 0])]
            if maps is not None:
                logit_number = label if threshold is None else 0
                if finding is not None:
                    logit_number = finding.number
                pictures.append(overlay(pixels, maps[row, ..., logit_number]))
            true_class, image_id = labels[scores.labels[index]], scores.image_ids[index]
            probability = float(values[index])
            examples.append(Example(pictures, true_class, labels[label], probability, image_id))
        positive = "" if threshold is None else labels[1]
        if finding is not None:
            name, positive = f"{name}-{finding.number}", finding.name
        groups.append(Group(name, title, correct, examples, len(members), positive))
    return groups


def _kinds(
    known: np.ndarray, predicted: np.ndarray, labels: tuple[str, ...]
) -> Iterator[tuple[str, str, bool, np.ndarray]]:
    """Yields name, title, whether the predictions are correct, and which images belong, (N,)."""
    wrong = known != predicted
    if len(labels) == 2:
        negative, positive = labels
        missed = f"False negatives: {positive} predicted as {negative}"
        alarms = f"False positives: {negative} predicted as {positive}"
        yield "false-negatives", missed, False, wrong & (known == 1)
        yield "false-positives", alarms, False, wrong & (known == 0)
    else:
        yield "errors", "Errors", False, wrong
    for k, name in enumerate(labels):
        yield f"correct-{k}", f"Correct: {name}", True, ~wrong & (known == k)


def data_url(image: Image.Image) -> str:
    """Returns the image as a JPEG data: URL."""
    if image.width > _SIDE:
        image = image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _draw_sheet(group: Group) -> Picture:
    """Draws images in a row, probabilities above and overlays below."""
    step = _SIDE + _GAP
    rows, columns = len(group.examples[0].images), len(group.examples)
    size = step * columns + _GAP, step * rows + _HEAD
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), group.title, fill=INK, font=ImageFont.load_default(18))
    colour, font = MUTED if group.correct else CLASS_COLOURS[1], ImageFont.load_default(15)
    for column, example in enumerate(group.examples):
        left = _GAP + step * column
        draw.text((left, _HEAD - 24), percent(example.probability), fill=colour, font=font)
        for row, image in enumerate(example.images):
            sheet.paste(image.resize((_SIDE, _SIDE)), (left, _HEAD + step * row))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    named = group.positive or "the predicted class"
    caption = f"Probability of {named} above, class activation map below."
    return Picture(group.name, group.title, caption, Markup(), buffer.getvalue())
