"""Pictures of training: loss and metrics of each epoch in `history.csv`."""

from __future__ import annotations

from typing import Any

from cxr_tfds.plotting import (
    ACCENT,
    CLASS_COLOURS,
    MUTED,
    SECOND,
    Picture,
    new_figure,
    render_picture,
)
from cxr_tfds.report.model_card import metric_label
from cxr_tfds.run_folder import History, best_epoch


def plot_training(history: History) -> list[Picture]:
    """Returns pictures of the loss and of the validation metrics, if `history` has them."""
    names = set.intersection(*map(set, history)) if history else set()
    if not {"epoch", "loss", "val_loss"} <= names:
        return []
    columns = {name: [row[name] for row in history] for name in history[0] if name in names}
    losses = {"training": columns["loss"], "validation": columns["val_loss"]}
    caption = "Training images are augmented, validation images are not."
    figure = _plot_epochs(columns["epoch"], losses, "loss")
    pictures = [render_picture(figure, "loss", "Loss", caption)]
    metrics = {
        metric_label(name.removeprefix("val_")): values
        for name, values in columns.items()
        if name.startswith("val_") and name != "val_loss"
    }
    if names & {"val_auc", "val_accuracy"}:
        figure = _plot_epochs(columns["epoch"], metrics, "validation split")
        figure.axes[0].axvline(best_epoch(history), color=MUTED, linestyle=":", linewidth=1.2)
        caption = "The dotted line marks the best epoch. Its weights are kept."
        pictures.append(render_picture(figure, "metrics", "Validation metrics", caption))
    return pictures


def _plot_epochs(epochs: list[float], series: dict[str, list[float]], y: str) -> Any:
    figure, axes = new_figure("epoch", y, left=0.16)
    colours = (ACCENT, SECOND, *CLASS_COLOURS[2:])
    marker = "o" if len(epochs) < 40 else None
    for colour, (name, values) in zip(colours, series.items(), strict=False):
        axes.plot(epochs, values, color=colour, label=name, marker=marker, markersize=3)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="best")
    return figure
