"""Pictures of a scored split: ROC, precision and recall, calibration, scores by class, confusion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cxr_tfds.evaluation.scoring import Scores
from cxr_tfds.metrics.curves import Curve, precision_recall, roc, wilson
from cxr_tfds.metrics.reliability import BINS, reliability_bins
from cxr_tfds.metrics.table import in_words
from cxr_tfds.plotting import (
    ACCENT,
    INK,
    LINE,
    MUTED,
    SECOND,
    Picture,
    colour_of,
    new_figure,
    picture,
)

_LOGIT_RANGE = 7.0  # the score axis ends at 0.1 % and 99.9 %
_ZOOMED = 0.93  # from this AUC on, the curves hug the corner
_TICKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)


def pictures_of(
    scores: Scores, table: dict[str, Any], labels: tuple[str, ...], threshold: float | None
) -> list[Picture]:
    """All that one split's scores and its figures (`metrics.json`) show; what is undefined is left out."""
    drawn = [
        _confusion(table["confusion_matrix"], labels),
        _roc(scores, table, labels),
        _precision_recall(scores, table, labels),
        _histogram(scores, labels, threshold),
        _sweep(scores, labels, threshold),
        _calibration(scores, table, labels),
    ]
    return [each for each in drawn if each is not None]


def _one_against_rest(scores: Scores) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Class, labels 0 or 1 and scores: the finding's of two classes, else of each class."""
    if scores.logits.ndim == 1:
        return [(1, scores.labels, scores.logits)]
    values = scores.probabilities
    return [
        (k, (scores.labels == k).astype(np.int64), values[:, k]) for k in range(values.shape[1])
    ]


def _curves(
    axes: Any, scores: Scores, labels: tuple[str, ...], curve_of: Callable[..., Curve | None]
) -> list[tuple[int, Curve]]:
    several = scores.logits.ndim > 1
    drawn = []
    for number, known, values in _one_against_rest(scores):
        if (curve := curve_of(known, values, scores.patient_ids)) is None:
            continue
        colour = colour_of(number) if several else ACCENT
        axes.fill_between(curve.grid, curve.low, curve.high, color=colour, alpha=0.16, linewidth=0)
        axes.plot(curve.x, curve.y, color=colour, label=labels[number] if several else None)
        drawn.append((number, curve))
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    if several:
        axes.legend(loc="best", title="against the rest", title_fontsize=8)
    return drawn


def _zoom(
    axes: Any,
    drawn: list[tuple[int, Curve]],
    scores: Scores,
    across: tuple[float, float],
    up: tuple[float, float],
    at: tuple[float, float],
) -> None:
    """The corner that matters, enlarged within the axes, `at` a place in parts of them."""
    inset = axes.inset_axes((*at, 0.5, 0.46), xlim=across, ylim=up)
    for number, curve in drawn:
        colour = ACCENT if scores.logits.ndim == 1 else colour_of(number)
        inset.fill_between(curve.grid, curve.low, curve.high, color=colour, alpha=0.16, linewidth=0)
        inset.plot(curve.x, curve.y, color=colour, linewidth=1.4)
    inset.spines[:].set_visible(True)
    inset.spines[:].set_color(LINE)
    inset.tick_params(labelsize=7, length=2)
    inset.locator_params(nbins=4)


def _roc(scores: Scores, table: dict[str, Any], labels: tuple[str, ...]) -> Picture | None:
    figure, axes = new_figure("false alarms (1 - specificity)", "found (sensitivity)")
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1, zorder=0)
    if not (drawn := _curves(axes, scores, labels, roc)):
        return None
    area = in_words(table["auc"], 3)
    caption = f"Area {area}. The band holds 95 % of the resamples."
    if scores.logits.ndim == 1 and table["specificity"]["value"] is not None:
        at = (1 - table["specificity"]["value"], table["sensitivity"]["value"])
        axes.plot(*at, "o", color=SECOND, markersize=7, markeredgecolor="white", zorder=5)
        axes.annotate(
            "threshold", at, xytext=(12, -14), textcoords="offset points", color=INK, fontsize=8
        )
        caption += " The dot is the threshold chosen on validation."
    if table["auc"]["value"] > _ZOOMED:
        _zoom(axes, drawn, scores, (0, 0.2), (0.8, 1.005), (0.42, 0.12))
    return picture(figure, "roc", "ROC", caption)


def _precision_recall(
    scores: Scores, table: dict[str, Any], labels: tuple[str, ...]
) -> Picture | None:
    figure, axes = new_figure("found (recall, sensitivity)", "right when called (precision, PPV)")
    if not (drawn := _curves(axes, scores, labels, precision_recall)):
        return None
    if table["auc"]["value"] > _ZOOMED:
        _zoom(axes, drawn, scores, (0.8, 1.005), (0.8, 1.005), (0.16, 0.08))
    caption = "The band holds 95 % of the resamples."
    if scores.logits.ndim == 1:
        share = float(scores.labels.mean())
        axes.axhline(share, color=MUTED, linewidth=1, linestyle=":")
        axes.annotate(
            "calling everything",
            (0.02, share),
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=8,
        )
        caption = f"Average precision {in_words(table['average_precision'], 3)}. " + caption
    return picture(figure, "precision-recall", "Precision and recall", caption)


def _logit(probabilities: np.ndarray) -> np.ndarray:
    clipped = np.clip(probabilities, 1e-9, 1 - 1e-9)
    return np.clip(np.log(clipped) - np.log1p(-clipped), -_LOGIT_RANGE, _LOGIT_RANGE)


def _histogram(scores: Scores, labels: tuple[str, ...], threshold: float | None) -> Picture:
    """Of two classes: the probability of the finding; of more: of each class, one above the other."""
    values = scores.probabilities if scores.logits.ndim > 1 else scores.probabilities[:, np.newaxis]
    shown = range(values.shape[1]) if values.shape[1] > 1 else (1,)
    figure, first = new_figure(height=3.5)
    first.remove()
    rows = figure.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0]
    figure.subplots_adjust(left=0.13, right=0.97, top=0.9, bottom=0.16, hspace=0.5)
    edges = np.linspace(-_LOGIT_RANGE, _LOGIT_RANGE, 43)
    for axes, column, number in zip(rows, values.T, shown, strict=True):
        for label, name in enumerate(labels):
            part = _logit(column[scores.labels == label])
            axes.hist(part, edges, color=colour_of(label), alpha=0.55, label=name)
            axes.hist(part, edges, histtype="step", color=colour_of(label), linewidth=1)
        axes.set_ylabel("images" if len(shown) == 1 else labels[number])
    rows[-1].set_xticks(_logit(np.array(_TICKS)), [f"{100 * tick:g} %" for tick in _TICKS])
    rows[-1].set_xlabel(
        f"probability of {labels[1]}" if len(shown) == 1 else "probability of the class at the left"
    )
    figure.legend(
        *rows[0].get_legend_handles_labels(),
        loc="upper center",
        ncols=min(len(labels), 4),
        bbox_to_anchor=(0.55, 1.0),
    )
    caption = (
        "True classes in colour, on the scale of logits: each step to the side multiplies the odds."
    )
    if threshold is not None:
        rows[0].axvline(
            float(_logit(np.array(threshold))), color=INK, linestyle="--", linewidth=1.2
        )
        caption += f" The dashed line is the threshold, {threshold:.3f}."
    return picture(figure, "scores", "Scores by class", caption)


def _sweep(scores: Scores, labels: tuple[str, ...], threshold: float | None) -> Picture | None:
    """Sensitivity and specificity at every threshold; None with more than two classes or only one seen."""
    if threshold is None or not 0 < scores.labels.sum() < len(scores.labels):
        return None
    places = _logit(scores.probabilities)
    grid = np.linspace(-_LOGIT_RANGE, _LOGIT_RANGE, 281)
    figure, axes = new_figure(f"{labels[1]} is called from a probability of")
    for label, name in ((1, "sensitivity"), (0, "specificity")):
        below = (
            np.searchsorted(np.sort(places[scores.labels == label]), grid)
            / (scores.labels == label).sum()
        )
        axes.plot(grid, 1 - below if label else below, color=colour_of(label), label=name)
    axes.axvline(float(_logit(np.array(threshold))), color=INK, linestyle="--", linewidth=1.2)
    axes.set_xticks(_logit(np.array(_TICKS)), [f"{100 * tick:g} %" for tick in _TICKS])
    axes.set_ylim(-0.02, 1.03)
    axes.set_position((0.13, 0.16, 0.84, 0.74))
    figure.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.55, 1.0))
    caption = "The dashed line is the threshold chosen on validation. Here, on other images, another one may be better."
    return picture(figure, "thresholds", "What another threshold would do", caption)


def _calibration(scores: Scores, table: dict[str, Any], labels: tuple[str, ...]) -> Picture:
    """Observed frequency over predicted probability in the bins of `ece`; the counts below."""
    values = scores.probabilities
    if values.ndim == 1:
        outcomes, y = scores.labels, f"frequency of {labels[1]}"
    else:
        outcomes, y = (
            (values.argmax(axis=1) == scores.labels).astype(np.int64),
            "frequency of being right",
        )
        values = values.max(axis=1)
    bins = reliability_bins(values)
    counts = np.bincount(bins, minlength=BINS)
    filled = np.flatnonzero(counts)
    found = np.bincount(bins, weights=outcomes, minlength=BINS)[filled]
    mean = np.bincount(bins, weights=values, minlength=BINS)[filled] / counts[filled]
    low, high = wilson(found, counts[filled])
    figure, axes = new_figure(y=y, bottom=0.34)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
    axes.vlines(mean, low, high, color=ACCENT, alpha=0.45, linewidth=1.6)
    axes.plot(mean, found / counts[filled], "o", color=ACCENT, markersize=4.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.04)
    axes.tick_params(labelbottom=False)
    below = figure.add_axes((0.13, 0.14, 0.84, 0.15), sharex=axes)
    below.bar((np.arange(BINS) + 0.5) / BINS, counts, width=0.9 / BINS, color=ACCENT, alpha=0.55)
    below.set_ylabel("images")
    below.set_xlabel("predicted probability")
    below.locator_params(axis="y", nbins=2)
    caption = (
        f"Expected calibration error {in_words(table['ece'], 3)} over {BINS} bins. On the dotted line a probability of "
        "70 % is right 70 times of 100. Bars are 95 % intervals."
    )
    return picture(figure, "calibration", "Calibration", caption)


def _confusion(counts: Any, labels: tuple[str, ...]) -> Picture:
    if isinstance(counts, dict):
        counts = [[counts["tn"], counts["fp"]], [counts["fn"], counts["tp"]]]
    table = np.array(counts)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = new_figure("decided", "truth", left=0.2, bottom=0.16)
    axes.grid(visible=False)
    edges = np.arange(len(table) + 1) - 0.5
    axes.pcolormesh(
        edges, edges, shares, cmap="Blues", vmin=0, vmax=1.15, edgecolors="white", linewidth=2
    )
    axes.invert_yaxis()
    size = 15 if len(table) < 4 else 10
    for row, column in np.ndindex(*table.shape):
        ink = "white" if shares[row, column] > 0.6 else INK
        axes.text(
            column,
            row - 0.06,
            f"{table[row, column]}",
            ha="center",
            va="center",
            color=ink,
            fontsize=size,
        )
        share = f"{shares[row, column]:.1%}"
        axes.text(column, row + 0.2, share, ha="center", va="center", color=ink, fontsize=8)
    names = [name if len(name) <= 14 else name[:13] + "…" for name in labels]
    axes.set_xticks(range(len(table)), names)
    axes.set_yticks(range(len(table)), names, rotation=90, va="center")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return picture(
        figure,
        "confusion",
        "Confusion matrix",
        "Images, and below them the part of the true class.",
    )
