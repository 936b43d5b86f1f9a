"""Pictures of training: what `history.csv` tells of each epoch."""

from __future__ import annotations

from typing import Any

from cxr_tfds.plotting import ACCENT, CLASS_COLOURS, MUTED, SECOND, Picture, new_figure, picture
from cxr_tfds.report.card import spelled
from cxr_tfds.run_folder import History, best_epoch


def pictures_of(history: History) -> list[Picture]:
    """Loss, and the metrics of validation, over the epochs."""
    names = set.intersection(*map(set, history)) if history else set()
    if not {"epoch", "loss", "val_loss"} <= names:
        return []
    columns = {name: [row[name] for row in history] for name in history[0] if name in names}
    losses = {"training": columns["loss"], "validation": columns["val_loss"]}
    caption = "Training images are augmented, validation images are not."
    drawn = [picture(_over_epochs(columns["epoch"], losses, "loss"), "loss", "Loss", caption)]
    others = {
        name[4:]: values
        for name, values in columns.items()
        if name.startswith("val_") and name != "val_loss"
    }
    if others.keys() & {"auc", "accuracy"}:
        named = {spelled(name): values for name, values in others.items()}
        figure = _over_epochs(columns["epoch"], named, "on validation")
        figure.axes[0].axvline(best_epoch(history), color=MUTED, linestyle=":", linewidth=1.2)
        caption = "The weights of the epoch at the dotted line are kept."
        drawn.append(picture(figure, "metrics", "Metrics of validation", caption))
    return drawn


def _over_epochs(epochs: list[float], series: dict[str, list[float]], y: str) -> Any:
    figure, axes = new_figure("epoch", y, left=0.16)
    marker = "o" if len(epochs) < 40 else None
    for colour, (name, values) in zip(
        (ACCENT, SECOND, *CLASS_COLOURS[2:]), series.items(), strict=False
    ):
        axes.plot(epochs, values, color=colour, label=name, marker=marker, markersize=3)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="best")
    return figure
