"""Draws a heatmap over its radiograph, above a caption and the scale of the colours."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cxr_tfds.imaging.overlay import colour_scale, overlay
from cxr_tfds.text import drawable

from .prediction import Statement

_MIN_SIDE = 512  # pixels: radiographs whose longer side is shorter are enlarged
_MIN_WIDTH = 360  # pixels of a picture, so that a caption fits below a narrow radiograph
_MIN_LETTERS = 10  # pixels, the height of letters
_GROUND, _INK, _MUTED = "#10161d", "#f2f5f8", "#a3b1bf"
_LEAST, _MOST = "nothing", "most in this image"  # at the ends of the scale


def draw_heatmap(
    grey: Image.Image, heatmap: np.ndarray, statement: Statement, fit: str
) -> Image.Image:
    """Returns an RGB picture of a radiograph in mode L, its heatmap (h, w) and what they mean.

    `fit` is how the radiograph became the square of the heatmap, see `overlay`.
    """
    scale = max(1, _MIN_SIDE / max(grey.size))
    grey = grey.resize([round(scale * side) or 1 for side in grey.size])
    picture = overlay(np.asarray(grey), heatmap, fit)
    width = max(picture.width, _MIN_WIDTH)
    colours = f"What speaks for {statement.name}:"
    if heatmap.max() <= 0:
        colours = f"No region speaks for {statement.name}."
    remarks = ["Not a medical device."]
    if fit == "crop" and grey.width != grey.height:
        remarks.insert(0, "The network does not see what is dark.")
    caption = _draw_caption(width, statement, colours, remarks)
    sheet = Image.new("RGB", (width, picture.height + caption.height), _GROUND)
    sheet.paste(picture, ((width - picture.width) // 2, 0))
    sheet.paste(caption, (0, picture.height))
    return sheet


def _draw_caption(
    width: int, statement: Statement, colours: str, remarks: list[str]
) -> Image.Image:
    """Returns the caption. A scale follows `colours` if it ends in a colon."""
    letters = max(14, width // 32)
    outcome, name = statement.outcome, statement.name
    if outcome in ("present", "absent"):
        outcome = f"{name} {outcome}"
    rows = [(outcome, round(1.5 * letters), _INK)]
    rows.append((f"{name} {statement.probability} ({statement.rule})", letters, _INK))
    rows.append((colours, letters, _MUTED))
    rows += [(remark, letters, _MUTED) for remark in remarks]
    sheet = Image.new("RGB", (width, 12 * letters), _GROUND)
    draw = ImageDraw.Draw(sheet)
    top = letters // 2
    for text, size, colour in rows:
        text, font = _fit(text, size, width - 2 * letters)
        draw.text((letters, top), text, colour, font)
        top += round(1.4 * size)
        if text.endswith(":"):
            _draw_scale(sheet, draw, top, letters)
            top += round(1.6 * letters)
    return sheet.crop((0, 0, width, top + letters // 2))


def _draw_scale(sheet: Image.Image, draw: ImageDraw.ImageDraw, top: int, letters: int) -> None:
    font = _font(letters)
    left = round(1.5 * letters + font.getlength(_LEAST))
    right = sheet.width - round(1.5 * letters + font.getlength(_MOST))
    draw.text((letters, top), _LEAST, _MUTED, font)
    sheet.paste(colour_scale(right - left, letters), (left, top + letters // 8))
    draw.text((right + letters // 2, top), _MOST, _MUTED, font)


def _fit(text: str, size: int, room: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """Returns the text and a font of at most `size`; the text is shortened if it is too long."""
    text = drawable(text)
    while size > _MIN_LETTERS and _font(size).getlength(text) > room:
        size -= 1
    if _font(size).getlength(text) > room:
        while _font(size).getlength(f"{text}…") > room:
            text = text[:-1]
        text += "…"
    return text, _font(size)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)  # type: ignore[return-value]
