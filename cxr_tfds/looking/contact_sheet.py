"""A page of sampled radiographs as the network sees them, one row a split and class."""

from __future__ import annotations

import base64
import html
import io
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cxr_tfds.building.engines import fit_all
from cxr_tfds.building.fitting import Fitting
from cxr_tfds.building.splits import source_splits
from cxr_tfds.errors import BadImage
from cxr_tfds.sources import SourceImage

FORMATS = (".png", ".html")
_PAPER, _INK, _MUTED, _EMPTY = "#ffffff", "#1c2733", "#5b6b7b", "#f3e3dd"
_GAP, _TITLE, _LINE = 8, 30, 14  # pixels
_SIDE = 224  # that an image is shown at, at least, on the PNG
_LETTERS_ACROSS = 36  # of a line below an image

Augmentation = Callable[[np.ndarray], np.ndarray]  # uint8 (N, S, S, C) to the same


class Cell(NamedTuple):
    """One image of a row."""

    pixels: np.ndarray | None  # uint8 (S, S, C); None: the file cannot be used
    name: str  # of the file
    note: str  # size and colours of the source, or why it cannot be used


class Row(NamedTuple):
    title: str
    cells: list[Cell]


def sheet(
    images: Sequence[SourceImage],
    classes: Sequence[str],
    fitting: Fitting,
    *,
    each: int,
    seed: int,
    augmented: Augmentation | None = None,
) -> list[Row]:
    """Up to `each` images of each split and class, the same ones for the same seed.

    Args:
      images: of a source.
      classes: in the order of the rows.
      fitting: to what they are decoded.
      each: images a row.
      seed: of the sample.
      augmented: changes images as training does; each row of train is then followed by its images changed.
    """
    rows = []
    rng = random.Random(seed)
    for split, members in source_splits(images).items():
        for name in classes:
            of_class = sorted(
                (image for image in members if image.label == name),
                key=lambda image: image.image_id,
            )
            if not of_class:
                continue
            sample = rng.sample(of_class, min(each, len(of_class)))
            title = (
                f"{split} \N{MIDDLE DOT} {name} \N{MIDDLE DOT} {len(sample)} of {len(of_class):,}"
            )
            cells = _cells(sample, fitting)
            rows.append(Row(title, cells))
            if augmented is not None and split == "train":
                rows.append(Row(f"{title}, augmented", _changed(cells, augmented)))
    return rows


def _cells(sample: Sequence[SourceImage], fitting: Fitting) -> list[Cell]:
    cells = []
    for image, result in zip(
        sample, fit_all([image.path for image in sample], fitting), strict=True
    ):
        if isinstance(result, BadImage):
            cells.append(Cell(None, image.path.name, str(result)))
        else:
            note = f"{result.facts.width} x {result.facts.height}, {result.facts.mode}, {result.facts.form}"
            cells.append(Cell(np.asarray(result.stored), image.path.name, note))
    return cells


def _changed(cells: Sequence[Cell], augmented: Augmentation) -> list[Cell]:
    whole = [cell for cell in cells if cell.pixels is not None]
    if not whole:
        return list(cells)
    changed = iter(augmented(np.stack([cell.pixels for cell in whole if cell.pixels is not None])))
    return [cell if cell.pixels is None else cell._replace(pixels=next(changed)) for cell in cells]


def write_sheet(rows: Sequence[Row], path: Path, title: str) -> None:
    """Writes the page to `path`, which ends in .png or .html; an HTML page holds its images."""
    if path.suffix.casefold() == ".html":
        path.write_text(_page(rows, title), encoding="utf-8")
    else:
        _picture(rows, title).save(path, "PNG")


def _picture(rows: Sequence[Row], title: str) -> Image.Image:
    side = max(
        [
            _SIDE,
            *(
                cell.pixels.shape[0]
                for row in rows
                for cell in row.cells
                if cell.pixels is not None
            ),
        ]
    )
    across = max(len(row.cells) for row in rows)
    down = _TITLE + side + 2 * _LINE + _GAP
    page = Image.new(
        "RGB", (_GAP + across * (side + _GAP), _TITLE + len(rows) * down + _GAP), _PAPER
    )
    draw = ImageDraw.Draw(page)
    head, small = ImageFont.load_default(15), ImageFont.load_default(11)
    draw.text((_GAP, _GAP), title, _INK, head)
    for number, row in enumerate(rows):
        top = _TITLE + number * down
        draw.text((_GAP, top + 8), row.title, _MUTED, head)
        for column, cell in enumerate(row.cells):
            left = _GAP + column * (side + _GAP)
            if cell.pixels is None:
                draw.rectangle((left, top + _TITLE, left + side, top + _TITLE + side), _EMPTY)
                draw.text((left + 6, top + _TITLE + 6), "cannot be used", _INK, small)
            else:
                page.paste(_image(cell.pixels).resize((side, side), _NEAREST), (left, top + _TITLE))
            below = top + _TITLE + side + 1
            draw.text((left, below), _short(cell.name, keep_end=True), _INK, small)
            draw.text((left, below + _LINE), _short(cell.note), _MUTED, small)
    return page


_NEAREST = Image.Resampling.NEAREST  # small images are shown as they are, only larger


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")


def _short(text: str, *, keep_end: bool = False) -> str:
    """What fits below an image; of a long name the end, which tells more."""
    text = text if text.isascii() and text.isprintable() else ascii(text)[1:-1]
    if len(text) <= _LETTERS_ACROSS:
        return text
    return f"...{text[3 - _LETTERS_ACROSS :]}" if keep_end else f"{text[: _LETTERS_ACROSS - 3]}..."


def _page(rows: Sequence[Row], title: str) -> str:
    parts = [_HEAD.format(title=html.escape(title))]
    for row in rows:
        parts.append(f"<h2>{html.escape(row.title)}</h2>\n<div>")
        for cell in row.cells:
            name, note = (
                html.escape(text.encode(errors="replace").decode())
                for text in (cell.name, cell.note)
            )
            if cell.pixels is None:
                picture = '<span class="bad">cannot be used</span>'
            else:
                file = io.BytesIO()
                _image(cell.pixels).convert("L").save(file, "PNG")
                data = base64.b64encode(file.getvalue()).decode()
                picture = f'<img alt="{name}" src="data:image/png;base64,{data}">'
            parts.append(
                f"<figure>{picture}<figcaption><b>{name}</b><br>{note}</figcaption></figure>"
            )
        parts.append("</div>")
    return "\n".join([*parts, "</body></html>\n"])


_HEAD = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.4 system-ui, sans-serif; color: #1c2733; margin: 2rem }}
h1 {{ font-size: 1.3rem }} h2 {{ font-size: 1rem; color: #5b6b7b; margin: 1.5rem 0 .5rem }}
div {{ display: flex; flex-wrap: wrap; gap: 10px }} figure {{ margin: 0; width: 224px }}
img, .bad {{ width: 224px; height: 224px; display: block }} .bad {{ background: #f3e3dd }}
figcaption {{ font-size: 11px; color: #5b6b7b; overflow-wrap: anywhere }}
</style></head><body><h1>{title}</h1>"""
