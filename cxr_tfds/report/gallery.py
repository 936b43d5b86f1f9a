"""Radiographs that the model classified correctly or wrongly, with class activation maps."""

from __future__ import annotations

import base64
import io
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont

from cxr_tfds.evaluation.activation import activation_maps
from cxr_tfds.evaluation.scoring import ImageSample, Scores
from cxr_tfds.imaging.overlay import overlay
from cxr_tfds.metrics.logits import logit
from cxr_tfds.plotting import CLASS_COLOURS, INK, MUTED, PAPER, Picture

_MAX_ERRORS, _MAX_CORRECT = 8, 4  # images of a group
_SIDE = 224  # pixels; larger images are reduced
_QUALITY = 88
_GAP, _HEAD = 6, 62  # pixels between the images of a sheet, and above them


class Example(NamedTuple):
    """An image and its prediction."""

    image: str  # data: URL
    overlay: str | None  # the image with its class activation map
    true_class: str
    predicted_class: str
    probability: float  # of the finding, or for K > 2 of the predicted class
    image_id: str
    correct: bool


class Group(NamedTuple):
    """Examples of one kind."""

    title: str
    note: str
    examples: list[Example]
    total: int


class _Kind(NamedTuple):
    name: str  # of the sheet
    title: str
    members: np.ndarray  # bool (M,)
    correct: bool


def collect_examples(
    model: Any,
    scores: Scores,
    sample: ImageSample,
    labels: tuple[str, ...],
    threshold: float | None,
) -> tuple[list[Group], list[Picture]]:
    """Returns errors, most confident first, and correct predictions; and each group as a picture.

    Args:
      model: The Keras model. There are no overlays if it has no class activation maps.
      scores: Scores of the split.
      sample: The images to choose from.
      labels: Class names.
      threshold: Decides two classes; None for more.
    """
    scores = scores.select(sample.indices)
    predicted, values = scores.decisions(threshold), scores.probabilities
    if threshold is not None:
        confidence = np.abs(scores.logits - logit(threshold, 1e-9) * scores.temperature)
    else:
        confidence = values.max(axis=1)
    groups, sheets = [], []
    for kind in _kinds(scores.labels, predicted, labels):
        members = np.flatnonzero(kind.members)
        if not len(members):
            continue
        chosen = members[np.argsort(-confidence[members], kind="stable")]
        if kind.correct:  # evenly spread over the confidence
            count = min(_MAX_CORRECT, len(chosen))
            chosen = chosen[np.linspace(0, len(chosen) - 1, count).round().astype(int)]
        chosen = chosen[:_MAX_ERRORS]
        maps = activation_maps(model, sample.images[chosen])
        examples, tiles = [], []
        for row, index in enumerate(chosen):
            label = int(predicted[index])
            column = 0 if values.ndim == 1 else label
            value = values[index] if values.ndim == 1 else values[index, label]
            pixels = sample.images[index]
            tile = [Image.fromarray(pixels[..., 0])]
            if maps is not None:
                tile.append(overlay(pixels, maps[row, ..., column]))
            tiles.append(tile)
            urls = [_data_url(image) for image in tile]
            examples.append(
                Example(
                    urls[0],
                    urls[1] if len(urls) > 1 else None,
                    labels[scores.labels[index]],
                    labels[label],
                    float(value),
                    scores.image_ids[index],
                    kind.correct,
                )
            )
        note = "From most to least confident." if kind.correct else "Most confident errors first."
        groups.append(Group(kind.title, note, examples, len(members)))
        sheets.append(_draw_sheet(kind, tiles, examples))
    return groups, sheets


def _kinds(known: np.ndarray, predicted: np.ndarray, labels: tuple[str, ...]) -> list[_Kind]:
    wrong = known != predicted
    if len(labels) == 2:
        negative, positive = labels
        missed = f"False negatives: {positive} predicted as {negative}"
        alarms = f"False positives: {negative} predicted as {positive}"
        kinds = [
            _Kind("false-negatives", missed, wrong & (known == 1), False),
            _Kind("false-positives", alarms, wrong & (known == 0), False),
        ]
    else:
        kinds = [_Kind("errors", "Errors", wrong, False)]
    return kinds + [
        _Kind(f"correct-{k}", f"Correct: {name}", ~wrong & (known == k), True)
        for k, name in enumerate(labels)
    ]


def _data_url(image: Image.Image) -> str:
    """Returns the image as a JPEG data: URL."""
    if image.width > _SIDE:
        image = image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _draw_sheet(kind: _Kind, tiles: list[list[Image.Image]], examples: list[Example]) -> Picture:
    """Draws images in a row, probabilities above and overlays below."""
    step = _SIDE + _GAP
    size = step * len(tiles) + _GAP, step * len(tiles[0]) + _HEAD
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), kind.title, fill=INK, font=ImageFont.load_default(18))
    colour, font = MUTED if kind.correct else CLASS_COLOURS[1], ImageFont.load_default(15)
    for column, (tile, example) in enumerate(zip(tiles, examples, strict=True)):
        left = _GAP + step * column
        draw.text((left, _HEAD - 24), f"{example.probability:.3f}", fill=colour, font=font)
        for row, image in enumerate(tile):
            sheet.paste(image.resize((_SIDE, _SIDE)), (left, _HEAD + step * row))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    caption = "Probability above, class activation map below."
    return Picture(kind.name, kind.title, caption, Markup(), buffer.getvalue())
