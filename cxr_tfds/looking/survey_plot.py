"""The picture of a survey: how many of each class, how large, how bright."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cxr_tfds.looking.survey import Survey
from cxr_tfds.plotting import INK, TIMES, colour_of, drawing

_DPI = 130
_MOST_DOTS = 2000  # of a class; more hide each other
_BINS = 64


def draw_survey(found: Survey, path: Path) -> None:
    """Writes class balance, size scatter and intensity histogram side by side as PNG."""
    with drawing():
        figure = Figure(figsize=(13, 4.2), layout="constrained")
        balance, sizes, greys = figure.subplots(1, 3)
        _draw_balance(balance, found)
        _draw_sizes(sizes, found)
        _draw_greys(greys, found)
        handles, names = greys.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=len(names))
        figure.savefig(path, format="png", dpi=_DPI)


def _draw_balance(axes: Any, found: Survey) -> None:
    splits = found.report["splits"]
    across = 0.8 / len(found.greys)
    for number, name in enumerate(found.greys):
        counts = [split["classes"].get(name, 0) for split in splits.values()]
        places = np.arange(len(splits)) + (number - (len(found.greys) - 1) / 2) * across
        bars = axes.bar(places, counts, 0.92 * across, color=colour_of(number))
        axes.bar_label(bars, [f"{count:,}" for count in counts], fontsize=8, color=INK)
    axes.set_xticks(range(len(splits)), list(splits))
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("images")
    axes.set_title("Classes in each split of the source")


def _draw_sizes(axes: Any, found: Survey) -> None:
    rng = np.random.default_rng(0)
    for number, of_class in enumerate(found.sizes.values()):
        some = (
            of_class
            if len(of_class) <= _MOST_DOTS
            else rng.choice(of_class, _MOST_DOTS, replace=False)
        )
        axes.scatter(some[:, 1], some[:, 0], s=9, color=colour_of(number), alpha=0.45, linewidths=0)
    axes.set(xlabel="width, pixels", ylabel="height, pixels", title="Size of the source images")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)


def _draw_greys(axes: Any, found: Survey) -> None:
    middle = (np.arange(_BINS) + 0.5) * 256 / _BINS
    for number, (name, counts) in enumerate(found.greys.items()):
        share = counts.reshape(_BINS, -1).sum(axis=1) / max(1, counts.sum())
        axes.plot(middle, 100 * share, color=colour_of(number), label=name)
    axes.set(
        xlabel="grey value",
        ylabel="% of the pixels",
        title=f"Brightness, fitted to 224 {TIMES} 224",
    )
    axes.set_xlim(0, 255)
    axes.set_ylim(bottom=0)
