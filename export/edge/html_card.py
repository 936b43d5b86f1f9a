"""The HTML of one prediction on a page: thumbnail, heat maps, label and probabilities."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

from cxr_tfds.errors import BadImage
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.imaging.overlay import colour_layer, colour_scale
from cxr_tfds.imaging.pixels import upright_grey
from cxr_tfds.text import html, percent, percents_in_order

from .model_info import ModelInfo
from .prediction import Prediction

UNREADABLE, NO_FINDING = "unreadable", "no-finding"  # groups; the others are numbers of labels
_SIDE, _QUALITY = 320, 75  # of a thumbnail: pixels of its longer side, quality of JPEG
_MAP_SIDE = 32  # pixels of the longer side of a heat map; browsers enlarge it smoothly


class Card(NamedTuple):
    """A prediction on the page."""

    html: str
    groups: list[str]  # which filters show it


def make_card(
    info: ModelInfo, levels: GreyLevels, name: str, data: bytes, result: Prediction | BadImage
) -> Card:
    """Returns the card of an image file, given its contents and the prediction."""
    folder, base = os.path.split(name)
    file = f'<p class="file"><b>{html(base)}</b> {html(folder)}</p>'
    if isinstance(result, BadImage):
        text = f'<h2>Not readable</h2><p class="reason">{html(result.reason)}</p>{file}'
        return _wrap([UNREADABLE], '<div class="picture"></div>', text)
    numbers = {label: str(number) for number, label in enumerate(info.labels)}
    present = [x.name for x in result.findings if x.is_present]
    predicted = present if result.findings else [result.label]
    title = ", ".join(predicted) or "No finding"
    bars = "".join(_bar(*row, is_predicted=row[0] in predicted) for row in _rows(result))
    thumbnail = upright_grey(data, _SIDE, levels=levels)
    image = f'<img src="{data_url(thumbnail, "JPEG", quality=_QUALITY)}" alt="{html(base)}" '
    image += f'width="{thumbnail.width}" height="{thumbnail.height}">'
    picture = f'<div class="picture">{image}{_maps(result, thumbnail, info.fit)}</div>'
    text = f"<h2>{html(title)}</h2><ul>{bars}</ul>{file}"
    return _wrap([numbers[label] for label in predicted] or [NO_FINDING], picture, text)


def _wrap(groups: list[str], picture: str, text: str) -> Card:
    classes = " ".join(f"g-{group}" for group in groups)
    card = f'<article class="card {classes}">{picture}<div class="text">{text}</div></article>\n'
    return Card(card, groups)


def _rows(result: Prediction) -> Iterator[tuple[str, float, float | None]]:
    """Yields each class or finding with its probability and threshold."""
    for finding in result.findings:
        yield finding.name, finding.probability, finding.threshold
    if not result.findings:
        for name, probability in result.probabilities.items():
            yield name, probability, result.threshold if name == result.positive else None


def _bar(name: str, probability: float, threshold: float | None, *, is_predicted: bool) -> str:
    value, rule, mark = percent(probability), "", ""
    if threshold is not None:
        value, limit = percents_in_order(probability, threshold)
        rule = f"<small>from {limit}</small>"
        mark = f'<u style="left:{100 * threshold:.1f}%"></u>'
    kind = ' class="predicted"' if is_predicted else ""
    return (
        f"<li{kind}><span>{html(name)} {rule}</span><b>{value}</b>"
        f'<div class="track"><i style="width:{100 * probability:.1f}%"></i>{mark}</div></li>'
    )


def _maps(result: Prediction, thumbnail: Image.Image, fit: str) -> str:
    """Returns the heat maps, which lie over the thumbnail; a page shows one of them at a time."""
    scale = _MAP_SIDE / max(thumbnail.size)
    width, height = (round(scale * side) or 1 for side in thumbnail.size)
    maps = [finding.heatmap for finding in result.findings] or [result.heatmap]
    return "".join(
        f'<img class="map m-{number}" alt="" '
        f'src="{data_url(colour_layer((width, height), heatmap, fit), "PNG")}">'
        for number, heatmap in enumerate(maps)
        if heatmap is not None
    )


def data_url(image: Image.Image, form: str, **options: int) -> str:
    """Returns an image, encoded in a format of Pillow with its options, as a data: URL."""
    content = io.BytesIO()
    image.save(content, form, optimize=True, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"


def scale_url() -> str:
    """Returns the scale of the colours as a data: URL."""
    return data_url(colour_scale(160, 8), "PNG")
