"""Radiographs the model was right and wrong about, with what it saw in them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont

from cxr_tfds.evaluation.activation import activation_maps
from cxr_tfds.evaluation.scoring import Kept, Scores
from cxr_tfds.imaging.overlay import overlay
from cxr_tfds.plotting import CLASS_COLOURS, INK, MUTED, PAPER, Picture

_EACH = 8  # most images of a group
_SIDE = 224  # pixels at most: larger ones are shown smaller
_QUALITY = 88
_GAP, _HEAD = 6, 62  # pixels of a sheet: between its images, and above them


class Cell(NamedTuple):
    """An image with its answer."""

    image: str  # data: URL
    overlay: str | None  # the same with its class activation map
    truth: str
    decided: str
    probability: float  # of the class decided; of two classes: of the finding
    image_id: str
    right: bool


class Group(NamedTuple):
    title: str
    note: str
    cells: list[Cell]
    total: int


def groups_of(
    model: Any, scores: Scores, kept: Kept, labels: tuple[str, ...], threshold: float | None
) -> tuple[list[Group], list[Picture]]:
    """Wrong answers, the surest first, and right ones from the surest to the least sure; and the same as a sheet.

    Args:
      model: Keras, for the class activation maps; without a map there is no overlay.
      scores: of the whole split.
      kept: the images among which is chosen.
      labels: class names.
      threshold: decides two classes; None for more.
    """
    decided = scores.decisions(threshold)[kept.places]
    known, values = scores.labels[kept.places], scores.probabilities[kept.places]
    certainty = (
        np.abs(scores.logits[kept.places] - _logit(threshold, scores))
        if values.ndim == 1
        else values.max(axis=1)
    )
    groups, sheets = [], []
    for name, title, note, members, spread in _plan(known, decided, labels):
        places = np.flatnonzero(members)
        if not len(places):
            continue
        order = places[np.argsort(-certainty[places], kind="stable")]
        chosen = order[_spread(len(order))] if spread else order[:_EACH]
        maps = activation_maps(model, kept.images[chosen])
        cells, overlays = [], []
        for row, place in enumerate(chosen):
            column = 0 if values.ndim == 1 else int(decided[place])
            seen = None if maps is None else overlay(kept.images[place], maps[row, ..., column])
            overlays.append(seen)
            probability = float(
                values[place] if values.ndim == 1 else values[place, decided[place]]
            )
            cells.append(
                Cell(
                    _url(Image.fromarray(kept.images[place][..., 0])),
                    None if seen is None else _url(seen),
                    labels[known[place]],
                    labels[decided[place]],
                    probability,
                    scores.image_ids[kept.places[place]],
                    bool(known[place] == decided[place]),
                )
            )
        groups.append(Group(title, note, cells, len(places)))
        sheets.append(
            _sheet(name, title, [kept.images[place][..., 0] for place in chosen], overlays, cells)
        )
    return groups, sheets


def _logit(threshold: float | None, scores: Scores) -> float:
    value = min(max(threshold or 0.5, 1e-9), 1 - 1e-9)
    return float(np.log(value) - np.log1p(-value)) * scores.temperature


def _plan(
    known: np.ndarray, decided: np.ndarray, labels: tuple[str, ...]
) -> list[tuple[str, str, str, np.ndarray, bool]]:
    """Name, title, note, members and whether to spread over the certainty, of each group."""
    wrong, surest = known != decided, "The surest first: what the model is most wrong about."
    if len(labels) == 2:
        sick, well = labels[1], labels[0]
        parts = [
            ("missed", f"Missed: {sick} taken for {well}", surest, wrong & (known == 1), False),
            (
                "false-alarms",
                f"False alarms: {well} taken for {sick}",
                surest,
                wrong & (known == 0),
                False,
            ),
        ]
    else:
        parts = [("wrong", "Taken for another class", surest, wrong, False)]
    note = "From the surest to the least sure."
    return parts + [
        (f"right-{k}", f"Rightly called {name}", note, ~wrong & (known == k), True)
        for k, name in enumerate(labels)
    ]


def _spread(count: int) -> np.ndarray:
    wanted = min(_EACH // 2, count)
    return np.unique(np.linspace(0, count - 1, wanted).round().astype(int))


def _url(image: Image.Image) -> str:
    """A JPEG within the page."""
    if image.width > _SIDE:
        image = image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _sheet(
    name: str,
    title: str,
    images: Sequence[np.ndarray],
    overlays: Sequence[Image.Image | None],
    cells: Sequence[Cell],
) -> Picture:
    """The images in a row, their probabilities above, their overlays below; for the folder of pictures."""
    rows = 2 if overlays[0] is not None else 1
    step = _SIDE + _GAP
    sheet = Image.new("RGB", (step * len(images) + _GAP, step * rows + _HEAD), PAPER)
    write = ImageDraw.Draw(sheet)
    write.text((_GAP, _GAP), title, fill=INK, font=ImageFont.load_default(18))
    for column, (image, seen, cell) in enumerate(zip(images, overlays, cells, strict=True)):
        left = _GAP + step * column
        colour = MUTED if cell.right else CLASS_COLOURS[1]
        write.text(
            (left, _HEAD - 24),
            f"{cell.probability:.3f}",
            fill=colour,
            font=ImageFont.load_default(15),
        )
        sheet.paste(Image.fromarray(image).resize((_SIDE, _SIDE)), (left, _HEAD))
        if seen is not None:
            sheet.paste(seen.resize((_SIDE, _SIDE)), (left, _HEAD + step))
    png = io.BytesIO()
    sheet.save(png, "PNG")
    return Picture(
        name, title, "Probability above, class activation map below.", Markup(), png.getvalue()
    )
