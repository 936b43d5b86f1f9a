"""Pictures of a scored split, and of the loss and metrics of each epoch in `history.csv`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cxr_tfds.evaluation.scoring import Scores
from cxr_tfds.metrics.curves import Curve, precision_recall_curve, roc_curve
from cxr_tfds.metrics.logits import logit
from cxr_tfds.metrics.reliability import BINS, reliability_curve
from cxr_tfds.metrics.table import format_metric
from cxr_tfds.plotting import (
    ACCENT,
    CLASS_COLOURS,
    INK,
    LINE,
    MUTED,
    SECOND,
    Picture,
    class_colour,
    new_figure,
    render_picture,
)
from cxr_tfds.report.model_card import metric_label
from cxr_tfds.run_folder import History, best_epoch

_LOGIT_RANGE = 7.0  # the probability axis ends at 0.1% and 99.9%
_TICKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
_ZOOM_FROM = 0.93  # from this AUC on, curves are close to the corner
_BAND = "The band contains 95% of the bootstrap resamples."


def plot_scores(
    scores: Scores, metrics: dict[str, Any], labels: tuple[str, ...], threshold: float | None
) -> list[Picture]:
    """Returns all pictures of a scored split that are defined.

    `metrics` is the split's table in `metrics.json`.
    """
    pictures = [
        _plot_confusion(metrics["confusion_matrix"], labels),
        _plot_roc(scores, metrics, labels),
        _plot_precision_recall(scores, metrics, labels),
        _plot_histogram(scores, labels, threshold),
        _plot_thresholds(scores, labels, threshold),
        _plot_reliability(scores, metrics, labels),
    ]
    return [picture for picture in pictures if picture is not None]


def _plot_curves(
    axes: Any,
    scores: Scores,
    labels: tuple[str, ...],
    make_curve: Callable[..., Curve | None],
    zoom: tuple[tuple[float, float], tuple[float, float], tuple[float, float]] | None,
) -> bool:
    """Plots the curve of the finding, or of each class against the rest, with its band.

    `zoom` holds x range, y range and lower left corner (in parts of the axes) of an enlarged
    detail. Returns whether any curve is defined.
    """
    several = scores.logits.ndim > 1
    values = scores.probabilities.T if several else scores.logits[np.newaxis]
    inset = None
    if zoom is not None:
        x, y, corner = zoom
        inset = axes.inset_axes((*corner, 0.5, 0.46), xlim=x, ylim=y)
        inset.spines[:].set(visible=True, color=LINE)
        inset.tick_params(labelsize=7, length=2)
        inset.locator_params(nbins=4)
    defined = False
    for number, column in enumerate(values):
        known = (scores.labels == number).astype(np.int64) if several else scores.labels
        if (curve := make_curve(known, column, scores.patient_ids)) is None:
            continue
        defined = True
        colour = class_colour(number) if several else ACCENT
        for each in (axes,) if inset is None else (axes, inset):
            each.fill_between(
                curve.grid, curve.low, curve.high, color=colour, alpha=0.16, linewidth=0
            )
            each.plot(curve.x, curve.y, color=colour, label=labels[number])
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    if several and defined:
        axes.legend(loc="best", title="class against the rest", title_fontsize=8)
    return defined


def _plot_roc(scores: Scores, metrics: dict[str, Any], labels: tuple[str, ...]) -> Picture | None:
    figure, axes = new_figure("1 - specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1, zorder=0)
    auc = metrics["auc"]["value"] or 0
    zoom = ((0, 0.2), (0.8, 1.005), (0.42, 0.12)) if auc > _ZOOM_FROM else None
    if not _plot_curves(axes, scores, labels, roc_curve, zoom):
        return None
    caption = f"AUC {format_metric(metrics['auc'], 3)}. {_BAND}"
    if scores.logits.ndim == 1:
        point = (1 - metrics["specificity"]["value"], metrics["sensitivity"]["value"])
        axes.plot(*point, "o", color=SECOND, markersize=7, markeredgecolor="white", zorder=5)
        caption += " The dot is the threshold chosen on the validation split."
    return render_picture(figure, "roc", "ROC curve", caption)


def _plot_precision_recall(
    scores: Scores, metrics: dict[str, Any], labels: tuple[str, ...]
) -> Picture | None:
    figure, axes = new_figure("recall (sensitivity)", "precision (positive predictive value)")
    auc = metrics["auc"]["value"] or 0
    zoom = ((0.8, 1.005), (0.8, 1.005), (0.16, 0.08)) if auc > _ZOOM_FROM else None
    if not _plot_curves(axes, scores, labels, precision_recall_curve, zoom):
        return None
    caption = _BAND
    if scores.logits.ndim == 1:
        axes.axhline(float(scores.labels.mean()), color=MUTED, linewidth=1, linestyle=":")
        precision = format_metric(metrics["average_precision"], 3)
        caption = (
            f"Average precision {precision}. {_BAND} The dotted line is the precision if every "
            f"image were predicted as {labels[1]}."
        )
    return render_picture(figure, "precision-recall", "Precision and recall", caption)


def _position(probabilities: np.ndarray | float) -> np.ndarray:
    """Returns positions on the probability axis, which is linear in logits."""
    return np.clip(logit(probabilities, 1e-9), -_LOGIT_RANGE, _LOGIT_RANGE)


def _set_probability_ticks(axes: Any) -> None:
    axes.set_xticks(_position(np.array(_TICKS)), [f"{100 * tick:g}%" for tick in _TICKS])


def _plot_histogram(scores: Scores, labels: tuple[str, ...], threshold: float | None) -> Picture:
    """Plots the probability of the finding, or of each class one above the other."""
    two = scores.logits.ndim == 1
    columns = scores.probabilities[np.newaxis] if two else scores.probabilities.T
    figure, axes = new_figure()
    axes.remove()
    rows = figure.subplots(len(columns), 1, squeeze=False, sharex=True)[:, 0]
    figure.subplots_adjust(left=0.13, right=0.97, top=0.9, bottom=0.16, hspace=0.5)
    edges = np.linspace(-_LOGIT_RANGE, _LOGIT_RANGE, 43)
    for number, (row, values) in enumerate(zip(rows, columns, strict=True)):
        for label, name in enumerate(labels):
            part, colour = _position(values[scores.labels == label]), class_colour(label)
            row.hist(part, edges, color=colour, alpha=0.55, label=name)
            row.hist(part, edges, histtype="step", color=colour, linewidth=1)
        row.set_ylabel("images" if two else labels[number])
    _set_probability_ticks(rows[-1])
    shown = labels[1] if two else "the class on the left"
    rows[-1].set_xlabel(f"probability of {shown}")
    _add_legend(figure, rows[0], len(labels))
    caption = "Histogram of predicted probabilities. Colours show the true class."
    if threshold is not None:
        rows[0].axvline(_position(threshold), color=INK, linestyle="--", linewidth=1.2)
        caption += f" The dashed line is the threshold, {threshold:.3f}."
    return render_picture(figure, "scores", "Predicted probabilities", caption)


def _add_legend(figure: Any, axes: Any, columns: int) -> None:
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="upper center", ncols=min(columns, 4), bbox_to_anchor=(0.55, 1.0))


def _plot_thresholds(
    scores: Scores, labels: tuple[str, ...], threshold: float | None
) -> Picture | None:
    """Plots sensitivity and specificity at every threshold, if both of two classes have images."""
    if threshold is None or not 0 < scores.labels.sum() < len(scores.labels):
        return None
    positions = _position(scores.probabilities)
    grid = np.linspace(-_LOGIT_RANGE, _LOGIT_RANGE, 281)
    figure, axes = new_figure(f"threshold for the probability of {labels[1]}")
    for label, name in ((1, "sensitivity"), (0, "specificity")):
        ordered = np.sort(positions[scores.labels == label])
        below = np.searchsorted(ordered, grid) / len(ordered)
        axes.plot(grid, 1 - below if label else below, color=class_colour(label), label=name)
    axes.axvline(_position(threshold), color=INK, linestyle="--", linewidth=1.2)
    _set_probability_ticks(axes)
    axes.set_ylim(-0.02, 1.03)
    axes.set_position((0.13, 0.16, 0.84, 0.74))
    _add_legend(figure, axes, 2)
    caption = (
        "Sensitivity and specificity on these images for every threshold. The dashed line is the "
        "threshold chosen on the validation split."
    )
    return render_picture(figure, "thresholds", "Other thresholds", caption)


def _plot_reliability(scores: Scores, metrics: dict[str, Any], labels: tuple[str, ...]) -> Picture:
    """Plots the observed frequency against the predicted probability, and the counts below."""
    values = scores.probabilities
    if values.ndim == 1:
        outcomes, y = scores.labels, f"frequency of {labels[1]}"
        meaning = f"of images with a probability of 70%, 70% show {labels[1]}"
    else:
        outcomes, y = values.argmax(axis=1) == scores.labels, "frequency of correct predictions"
        meaning = "of predictions with a probability of 70%, 70% are correct"
        values = values.max(axis=1)
    curve = reliability_curve(values, outcomes)
    figure, axes = new_figure(y=y, bottom=0.34)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
    axes.vlines(curve.predicted, curve.low, curve.high, color=ACCENT, alpha=0.45, linewidth=1.6)
    axes.plot(curve.predicted, curve.observed, "o", color=ACCENT, markersize=4.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.04)
    axes.tick_params(labelbottom=False)
    below = figure.add_axes((0.13, 0.14, 0.84, 0.15), sharex=axes)
    middles = (np.arange(BINS) + 0.5) / BINS
    below.bar(middles, curve.counts, width=0.9 / BINS, color=ACCENT, alpha=0.55)
    below.set_ylabel("images")
    below.set_xlabel("predicted probability")
    below.locator_params(axis="y", nbins=2)
    caption = (
        f"On the dotted line, probabilities are exact: {meaning}. Bars are 95% intervals. Expected "
        f"calibration error {format_metric(metrics['ece'], 3)}."
    )
    return render_picture(figure, "reliability", "Reliability", caption)


def _plot_confusion(counts: Any, labels: tuple[str, ...]) -> Picture:
    if isinstance(counts, dict):
        counts = [[counts["tn"], counts["fp"]], [counts["fn"], counts["tp"]]]
    table = np.array(counts)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = new_figure("predicted class", "true class", left=0.2, bottom=0.16)
    axes.grid(visible=False)
    edges = np.arange(len(table) + 1) - 0.5
    axes.pcolormesh(
        edges, edges, shares, cmap="Blues", vmin=0, vmax=1.15, edgecolors="white", linewidth=2
    )
    axes.invert_yaxis()
    size = 15 if len(table) < 4 else 10
    for row, column in np.ndindex(*table.shape):
        count, share = table[row, column], shares[row, column]
        style = {"ha": "center", "va": "center", "color": "white" if share > 0.6 else INK}
        axes.text(column, row - 0.06, f"{count}", fontsize=size, **style)
        axes.text(column, row + 0.2, f"{share:.1%}", fontsize=8, **style)
    names = [name if len(name) <= 14 else f"{name[:13]}…" for name in labels]
    axes.set_xticks(range(len(table)), names)
    axes.set_yticks(range(len(table)), names, rotation=90, va="center")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    caption = "Number of images, and percentage of the images of the true class."
    return render_picture(figure, "confusion", "Confusion matrix", caption)


def plot_training(history: History) -> list[Picture]:
    """Returns pictures of loss, accuracy and other validation metrics, if `history` has them."""
    names = set.intersection(*map(set, history)) if history else set()
    if not {"epoch", "loss", "val_loss"} <= names:
        return []
    columns = {name: [row[name] for row in history] for name in history[0] if name in names}
    has_best = bool(names & {"val_auc", "val_accuracy"})
    best = best_epoch(history) if has_best else None
    marks = " The dotted line marks the best epoch. Its weights are kept." if has_best else ""
    at_half = " Two classes are decided at a probability of 0.5."
    pictures = []
    for name, note in (("loss", ""), ("accuracy", at_half)):
        if not {name, f"val_{name}"} <= names:
            continue
        series = {"training": columns[name], "validation": columns.pop(f"val_{name}")}
        figure = _plot_epochs(columns["epoch"], series, name, best)
        caption = f"Training images are augmented, validation images are not.{note}{marks}"
        pictures.append(render_picture(figure, name, name.capitalize(), caption))
    metrics = {
        metric_label(name.removeprefix("val_")): values
        for name, values in columns.items()
        if name.startswith("val_")
    }
    if metrics:
        figure = _plot_epochs(columns["epoch"], metrics, "validation split", best)
        pictures.append(render_picture(figure, "metrics", "Validation metrics", marks.lstrip()))
    return pictures


def _plot_epochs(
    epochs: list[float], series: dict[str, list[float]], y: str, best: int | None
) -> Any:
    figure, axes = new_figure("epoch", y, left=0.16)
    colours = (ACCENT, SECOND, *CLASS_COLOURS[2:])
    marker = "o" if len(epochs) < 40 else None
    for colour, (name, values) in zip(colours, series.items(), strict=False):
        axes.plot(epochs, values, color=colour, label=name, marker=marker, markersize=3)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if best is not None:
        axes.axvline(best, color=MUTED, linestyle=":", linewidth=1.2)
    axes.legend(loc="best")
    return figure
