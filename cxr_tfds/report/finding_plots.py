"""Pictures of a split whose images may have several findings: a small plot for each finding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from cxr_tfds.evaluation.scoring import Scores
from cxr_tfds.metrics.curves import Curve, precision_recall_curve, roc_curve
from cxr_tfds.metrics.reliability import reliability_curve
from cxr_tfds.plotting import ACCENT, INK, LINE, MUTED, SECOND, Picture, new_figure, render_picture

_COLUMNS = 4
_CELL = 1.75  # inches
_MARGIN = 0.55  # inches left of and below all plots
_GAP = 0.42  # inches between plots, for the titles
_MAX_TITLE = 24  # characters


def plot_findings(scores: Scores, metrics: dict[str, Any], labels: Sequence[str]) -> list[Picture]:
    """Returns ROC, precision-recall and reliability curves of every finding that has them.

    `metrics` is the split's table in `metrics.json`.
    """
    alone = [scores.of_finding(number)[1] for number in range(len(labels))]
    pictures = [
        _plot_curves(
            alone, metrics, labels, roc_curve, "auc", ("1 - specificity", "sensitivity"),
            ("roc", "ROC curves"),
            "Titles state the AUC. The dot is the threshold chosen on the validation split.",
        ),
        _plot_curves(
            alone, metrics, labels, precision_recall_curve, "average_precision",
            ("recall (sensitivity)", "precision"), ("precision-recall", "Precision and recall"),
            "Titles state the average precision. The dotted line is the part of the images that "
            "have the finding.",
        ),
        _plot_reliability(alone, labels),
    ]  # fmt: skip
    return [picture for picture in pictures if picture is not None]


def _cells(count: int, x: str, y: str) -> tuple[Any, Iterator[Any]]:
    """Returns a figure with room for `count` square plots, and the axes one after the other."""
    columns = min(_COLUMNS, count)
    rows = math.ceil(count / columns)
    width = _MARGIN + columns * (_CELL + _GAP)
    height = _MARGIN + rows * (_CELL + _GAP)
    figure, axes = new_figure(width=width, height=height)
    axes.remove()
    figure.text(0.5, 0.1 / height, x, ha="center", fontsize=9, color=INK)
    figure.text(0.1 / width, 0.5, y, va="center", rotation=90, fontsize=9, color=INK)

    def add() -> Iterator[Any]:
        for number in range(count):
            row, column = divmod(number, columns)
            left = _MARGIN + column * (_CELL + _GAP)
            bottom = height - (row + 1) * (_CELL + _GAP)
            cell = figure.add_axes(
                (left / width, bottom / height, _CELL / width, _CELL / height),
                xlim=(-0.03, 1.03),
                ylim=(-0.03, 1.03),
            )
            cell.tick_params(labelsize=7)
            yield cell

    return figure, add()


def _title(name: str, value: float | None = None) -> str:
    name = name if len(name) <= _MAX_TITLE else f"{name[: _MAX_TITLE - 1]}…"
    return name if value is None else f"{name}  {value:.3f}"


def _plot_curves(
    alone: Sequence[Scores],
    metrics: dict[str, Any],
    labels: Sequence[str],
    make_curve: Callable[..., Curve | None],
    metric: str,
    axis_labels: tuple[str, str],
    name_and_title: tuple[str, str],
    caption: str,
) -> Picture | None:
    """Plots a curve with its band for each finding that is both present and absent."""
    curves: dict[str, tuple[Curve, Scores]] = {}
    for name, scores in zip(labels, alone, strict=True):
        if (curve := make_curve(scores.labels, scores.logits, scores.patient_ids)) is not None:
            curves[name] = curve, scores
    if not curves:
        return None
    figure, cells = _cells(len(curves), *axis_labels)
    for (name, (curve, scores)), axes in zip(curves.items(), cells, strict=True):
        table = metrics["findings"][name]
        axes.fill_between(curve.grid, curve.low, curve.high, color=ACCENT, alpha=0.16, linewidth=0)
        axes.plot(curve.x, curve.y, color=ACCENT, linewidth=1.4)
        axes.set_title(_title(name, table[metric]["value"]))
        if metric == "auc":
            axes.plot([0, 1], [0, 1], color=LINE, linewidth=1, zorder=0)
            point = (1 - table["specificity"]["value"], table["sensitivity"]["value"])
            axes.plot(*point, "o", color=SECOND, markersize=5, markeredgecolor="white", zorder=5)
        else:
            share = float(scores.labels.mean())
            axes.axhline(share, color=MUTED, linewidth=1, linestyle=":")
    caption = f"{caption} The band contains 95% of the bootstrap resamples."
    return render_picture(figure, *name_and_title, caption)


def _plot_reliability(alone: Sequence[Scores], labels: Sequence[str]) -> Picture | None:
    counted = {
        name: scores for name, scores in zip(labels, alone, strict=True) if len(scores.labels)
    }
    if not counted:
        return None
    figure, cells = _cells(len(counted), "predicted probability", "frequency of the finding")
    for (name, scores), axes in zip(counted.items(), cells, strict=True):
        curve = reliability_curve(scores.probabilities, np.asarray(scores.labels))
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
        axes.vlines(curve.predicted, curve.low, curve.high, color=ACCENT, alpha=0.45, linewidth=1.4)
        axes.plot(curve.predicted, curve.observed, "o", color=ACCENT, markersize=3.5)
        axes.set_title(_title(name))
    caption = (
        "On the dotted line, probabilities are exact: of images with a probability of 70%, 70% "
        "have the finding. Bars are 95% intervals."
    )
    return render_picture(figure, "reliability", "Reliability", caption)
