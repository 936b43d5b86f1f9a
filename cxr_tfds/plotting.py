"""The palette and the matplotlib style of every plot and page.

Only the functions that draw import matplotlib, so that the palette alone loads quickly.
"""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER = "#1c2733", "#5b6b7b", "#d9e0e7", "#ffffff"
MISSING = "#f3e3dd"  # background in place of an image that cannot be read
NEGATIVE, POSITIVE = "#2f6f9f", "#cf5c36"
# One colour a class, the negative class first; colour-blind readers can distinguish them.
CLASS_COLOURS = (
    NEGATIVE, POSITIVE, "#4c956c", "#7d5ba6", "#b8860b", "#2a9d8f", "#8d6e63", "#607d8b",
)  # fmt: skip
TIMES = "\N{MULTIPLICATION SIGN}"
ACCENT, SECOND = "#1f4e79", "#c98b2b"

DPI = 130  # of PNG files
_STYLE: Any = {
    "svg.fonttype": "path",  # the layout does not depend on the reader's fonts
    "svg.hashsalt": "cxr-tfds",  # the same numbers give the same file
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
    """A plot in both file formats, with its title and caption."""

    name: str  # of the PNG file, without suffix
    title: str
    caption: str  # how to read the plot
    svg: Markup  # the `<svg>` element, for an HTML page
    png: bytes


def plot_style() -> AbstractContextManager[None]:
    """Applies the project's matplotlib style and restores the previous one."""
    import matplotlib as mpl

    return mpl.rc_context(_STYLE)


def class_colour(number: int) -> str:
    """Returns the colour of class `number`; the eight colours repeat."""
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
    """Returns a figure in inches and its axes; the labels need the parts `left` and `bottom`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left, bottom, 0.97 - left, 0.96 - bottom))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def render_picture(figure: Figure, name: str, title: str, caption: str) -> Picture:
    """Renders a figure as SVG, labelled for screen readers, and as PNG."""
    from markupsafe import Markup, escape

    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    opening = f'<svg role="img" aria-label="{escape(title)}. {escape(caption)}"'
    svg = opening + text.getvalue().partition("<svg")[2]
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    return Picture(name, title, caption, Markup(svg), png.getvalue())  # our own SVG, safe as is
