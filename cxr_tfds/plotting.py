"""How pictures look: one palette, one set of axes, SVG for the page and PNG for the folder."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER = "#1c2733", "#5b6b7b", "#d9e0e7", "#ffffff"
NEGATIVE, POSITIVE = "#2f6f9f", "#cf5c36"
# One colour a class, the negative class first; told apart by colour-blind readers, too.
CLASS_COLOURS = (
    NEGATIVE,
    POSITIVE,
    "#4c956c",
    "#7d5ba6",
    "#b8860b",
    "#2a9d8f",
    "#8d6e63",
    "#607d8b",
)
TIMES = "\N{MULTIPLICATION SIGN}"
ACCENT, SECOND = "#1f4e79", "#c98b2b"

_DPI = 130  # of the PNG
_RC: Any = {
    "svg.fonttype": "path",  # text stays where it was measured, whatever fonts a reader has
    "svg.hashsalt": "cxr-tfds",  # the same figures give the same file
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa7b4",
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e9eef2",
    "grid.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
}


class Picture(NamedTuple):
    """A drawing with what a reader needs beside it."""

    name: str  # of the PNG file, without ending
    title: str
    caption: str  # how to read it
    svg: Markup
    png: bytes


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib in our style, and in the state it was in afterwards."""
    with mpl.rc_context(_RC):
        yield


def colour_of(number: int) -> str:
    """Of a class."""
    return CLASS_COLOURS[number % len(CLASS_COLOURS)]


def new_figure(
    x: str = "",
    y: str = "",
    *,
    width: float = 4.7,
    height: float = 3.5,
    left: float = 0.13,
    bottom: float = 0.14,
) -> tuple[Figure, Any]:
    """A figure in inches with one set of axes; `left` and `bottom` are the parts that labels need."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left, bottom, 0.97 - left, 0.96 - bottom))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def picture(figure: Figure, name: str, title: str, caption: str) -> Picture:
    """Draws the figure in both forms."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    opening = f'<svg role="img" aria-label="{escape(title)}. {escape(caption)}"'
    svg = opening + svg[svg.index("<svg") + len("<svg") :]
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=_DPI, metadata={"Software": None})
    return Picture(
        name, title, caption, Markup(svg), png.getvalue()
    )  # drawn by us: nothing to escape
