"""Plots a survey: class balance, image sizes and brightness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cxr_tfds.looking.survey import Survey
from cxr_tfds.plotting import DPI, INK, TIMES, class_colour, plot_style

_MAX_DOTS = 2000  # of a class; more would hide each other
_BINS = 64


def plot_survey(survey: Survey, path: Path) -> None:
    """Writes class balance, image sizes and grey-value histogram side by side as PNG."""
    with plot_style():
        figure = Figure(figsize=(13, 4.2), layout="constrained")
        balance, sizes, brightness = figure.subplots(1, 3)
        _plot_balance(balance, survey)
        _plot_sizes(sizes, survey)
        _plot_brightness(brightness, survey)
        handles, names = brightness.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=len(names))
        figure.savefig(path, format="png", dpi=DPI)


def _plot_balance(axes: Any, survey: Survey) -> None:
    splits = survey.report["splits"]
    width = 0.8 / len(survey.sizes)
    for number, name in enumerate(survey.sizes):
        counts = [split["classes"].get(name, 0) for split in splits.values()]
        x = np.arange(len(splits)) + (number - (len(survey.sizes) - 1) / 2) * width
        bars = axes.bar(x, counts, 0.92 * width, color=class_colour(number))
        axes.bar_label(bars, [f"{count:,}" for count in counts], fontsize=8, color=INK)
    axes.set_xticks(range(len(splits)), list(splits))
    axes.grid(visible=False, axis="x")
    axes.set(ylabel="images", title="Classes in each split of the source")


def _plot_sizes(axes: Any, survey: Survey) -> None:
    rng = np.random.default_rng(0)
    for number, sizes in enumerate(survey.sizes.values()):
        dots = sizes if len(sizes) <= _MAX_DOTS else rng.choice(sizes, _MAX_DOTS, replace=False)
        colour = class_colour(number)
        axes.scatter(dots[:, 1], dots[:, 0], s=9, color=colour, alpha=0.45, linewidths=0)
    axes.set(xlabel="width, pixels", ylabel="height, pixels", title="Size of the source images")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)


def _plot_brightness(axes: Any, survey: Survey) -> None:
    centres = (np.arange(_BINS) + 0.5) * 256 / _BINS
    for number, (name, counts) in enumerate(survey.histograms.items()):
        share = counts.reshape(_BINS, -1).sum(axis=1) / max(1, counts.sum())
        axes.plot(centres, 100 * share, color=class_colour(number), label=name)
    axes.set(
        xlabel="grey value",
        ylabel="% of the pixels",
        title=f"Brightness, fitted to 224 {TIMES} 224",
    )
    axes.set_xlim(0, 255)
    axes.set_ylim(bottom=0)
