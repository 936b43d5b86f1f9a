"""Contact sheets: sampled radiographs as the network sees them, one row a split and class."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cxr_tfds.building.engines import fit_all
from cxr_tfds.building.fitting import FitSettings
from cxr_tfds.building.grey_range import resolve_levels
from cxr_tfds.building.splits import source_splits
from cxr_tfds.errors import BadImage
from cxr_tfds.plotting import INK, MISSING, MUTED, PAPER
from cxr_tfds.sources import SourceImage
from cxr_tfds.sources.image import get_labels
from cxr_tfds.text import drawable, finalize_html

FORMATS = (".png", ".html")
_GAP, _TITLE, _LINE = 8, 30, 14  # pixels
_MIN_SIDE = 224  # of an image in the PNG, pixels
_MAX_LETTERS = 36  # of a line below an image

BatchFunction = Callable[[np.ndarray], np.ndarray]  # uint8 (N, S, S, C) to the same


class Cell(NamedTuple):
    """One image of a row."""

    pixels: np.ndarray | None  # uint8 (S, S, C); None if the file cannot be used
    name: str  # of the file
    note: str  # size and colours of the source, or why it cannot be used


class Row(NamedTuple):
    """The sampled images of one split and class."""

    title: str
    cells: list[Cell]


def sample_rows(
    images: Sequence[SourceImage],
    classes: Sequence[str],
    settings: FitSettings,
    *,
    each: int,
    seed: int,
    augment: BatchFunction | None = None,
) -> list[Row]:
    """Returns up to `each` images of every split and class or finding, drawn at random.

    Args:
      images: All images of a source.
      classes: The order of the rows.
      settings: How the images are fitted.
      each: Images a row.
      seed: Of the sample; the same seed gives the same images.
      augment: Changes a batch as training does; its result follows each row of train.
    """
    levels, _ = resolve_levels(images, settings.levels)
    settings = settings._replace(levels=levels)
    rows = []
    rng = random.Random(seed)
    for split, members in source_splits(images).items():
        by_label: dict[str, list[SourceImage]] = {name: [] for name in classes}
        for image in members:
            for label in get_labels(image, classes):
                by_label.setdefault(label, []).append(image)
        for name, members_of_class in by_label.items():
            if not members_of_class:
                continue
            members_of_class.sort(key=lambda image: image.image_id)
            sample = rng.sample(members_of_class, min(each, len(members_of_class)))
            counts = f"{len(sample)} of {len(members_of_class):,}"
            title = " \N{MIDDLE DOT} ".join((split, name, counts))
            cells = _read_cells(sample, settings)
            rows.append(Row(title, cells))
            if augment is not None and split == "train":
                rows.append(Row(f"{title}, augmented", _augment_cells(cells, augment)))
    return rows


def _read_cells(sample: Sequence[SourceImage], settings: FitSettings) -> list[Cell]:
    cells = []
    results = fit_all([image.path for image in sample], settings)
    for image, result in zip(sample, results, strict=True):
        if isinstance(result, BadImage):
            cells.append(Cell(None, image.path.name, result.reason))
        else:
            note = f"{result.width} x {result.height}, {result.mode}, {result.format}"
            cells.append(Cell(result.pixels, image.path.name, note))
    return cells


def _augment_cells(cells: list[Cell], augment: BatchFunction) -> list[Cell]:
    usable = [cell.pixels for cell in cells if cell.pixels is not None]
    if not usable:
        return cells
    changed = iter(augment(np.stack(usable)))
    return [cell if cell.pixels is None else cell._replace(pixels=next(changed)) for cell in cells]


def write_sheet(rows: Sequence[Row], path: Path, title: str) -> None:
    """Writes the rows to `path`, a PNG file or an HTML page with embedded images."""
    if path.suffix.casefold() == ".html":
        path.write_text(_render_page(rows, title), encoding="utf-8")
    else:
        _draw_sheet(rows, title).save(path, "PNG")


def _render_page(rows: Sequence[Row], title: str) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cxr_tfds.looking", ""),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=finalize_html,
        trim_blocks=True,
    )
    environment.filters["png"] = _encode_png
    page = environment.get_template("contact_sheet.html.j2")
    return page.render(rows=rows, title=title, ink=INK, muted=MUTED, missing=MISSING)


def _encode_png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    _to_image(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _draw_sheet(rows: Sequence[Row], title: str) -> Image.Image:
    sides = [len(cell.pixels) for row in rows for cell in row.cells if cell.pixels is not None]
    side = max([_MIN_SIDE, *sides])
    columns = max(len(row.cells) for row in rows)
    row_height = _TITLE + side + 2 * _LINE + _GAP
    size = (_GAP + columns * (side + _GAP), _TITLE + len(rows) * row_height + _GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(15), ImageFont.load_default(11)
    draw.text((_GAP, _GAP), drawable(title), INK, large)
    for number, row in enumerate(rows):
        top = 2 * _TITLE + number * row_height
        draw.text((_GAP, top - _TITLE + 8), drawable(row.title), MUTED, large)
        for column, cell in enumerate(row.cells):
            left = _GAP + column * (side + _GAP)
            if cell.pixels is None:
                draw.rectangle((left, top, left + side, top + side), MISSING)
                draw.text((left + 6, top + 6), "unusable", INK, small)
            else:
                # NEAREST shows the pixels of a small image unchanged.
                image = _to_image(cell.pixels).resize((side, side), Image.Resampling.NEAREST)
                sheet.paste(image, (left, top))
            draw.text((left, top + side + 1), _shorten(cell.name, keep_end=True), INK, small)
            draw.text((left, top + side + 1 + _LINE), _shorten(cell.note), MUTED, small)
    return sheet


def _to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0])  # three channels would be equal


def _shorten(text: str, *, keep_end: bool = False) -> str:
    # The end of a long name distinguishes it better than the beginning.
    text = drawable(text)
    if len(text) <= _MAX_LETTERS:
        return text
    return f"...{text[3 - _MAX_LETTERS :]}" if keep_end else f"{text[: _MAX_LETTERS - 3]}..."
