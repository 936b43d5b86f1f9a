"""The picture of `stress.json`: the AUC under each condition."""

from __future__ import annotations

from typing import Any

from cxr_tfds.evaluation.conditions import MODERATE, STRENGTHS
from cxr_tfds.plotting import (
    ACCENT,
    INK,
    MUTED,
    NEGATIVE,
    POSITIVE,
    SECOND,
    Picture,
    new_figure,
    render_picture,
)

_COLOURS = dict(zip(STRENGTHS, (NEGATIVE, SECOND, POSITIVE), strict=True))
_ROW = 0.3  # inches


def plot_stress(table: dict[str, Any]) -> Picture | None:
    """Returns the AUC under each condition, the largest drop at the top, or None without an AUC."""
    clean = table["clean"]["auc"]
    if clean is None:
        return None
    moderate = [row for row in table["rows"] if row["strength"] == MODERATE]
    moderate.sort(key=lambda row: row["auc"], reverse=True)
    order = [row["condition"] for row in moderate]
    measured = {row["strength"] for row in table["rows"]}
    strengths = [strength for strength in STRENGTHS if strength in measured]
    height = _ROW * len(order) + 0.95  # 0.5 inches below the axes and 0.45 above
    figure, axes = new_figure("AUC", width=6.4, height=height)
    axes.set_position((0.23, 0.5 / height, 0.74, _ROW * len(order) / height))
    mean = table["moderate"]["auc"]
    axes.axvline(clean, color=INK, linewidth=1.2, linestyle="--", label="original images")
    axes.axvline(mean, color=MUTED, linewidth=1.2, linestyle=":", label="mean (moderate)")
    for number, strength in enumerate(strengths):
        offset = 0.2 * ((len(strengths) - 1) / 2 - number)
        colour = _COLOURS[strength] if len(strengths) > 1 else ACCENT
        for row in table["rows"]:
            if row["strength"] == strength:
                y = order.index(row["condition"]) + offset
                axes.hlines(y, *_interval(row, clean), color=colour, alpha=0.4, linewidth=2)
                axes.plot(row["auc"], y, "o", color=colour, markersize=4.5)
        axes.plot([], [], "o", color=colour, markersize=4.5, label=strength)
    axes.set_yticks(range(len(order)), order)
    axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=8.5)
    axes.set_ylim(-0.6, len(order) - 0.4)
    columns = len(strengths) + 2
    figure.legend(loc="upper center", ncols=columns, bbox_to_anchor=(0.58, 1), columnspacing=1.2)
    caption = (
        "Conditions with the largest drop at moderate strength are at the top. Bars are 95% "
        "bootstrap intervals of the drop."
    )
    return render_picture(figure, "stress", "AUC under stress", caption)


def _interval(row: dict[str, Any], clean: float) -> tuple[float, float]:
    """Returns the interval of the drop as an interval of the AUC."""
    drop = row["drop"]
    if drop["low"] is None:
        return row["auc"], row["auc"]
    return max(clean - drop["high"], 0.0), min(clean - drop["low"], 1.0)
