"""The picture of `stress.json`: what each condition costs."""

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
    picture,
)

_COLOURS = dict(zip(STRENGTHS, (NEGATIVE, SECOND, POSITIVE), strict=True))


def picture_of(table: dict[str, Any]) -> Picture | None:
    """AUC under each condition, the costliest first; None where it is undefined."""
    if table["clean"]["auc"] is None:
        return None
    moderate = {row["condition"]: row for row in table["rows"] if row["strength"] == MODERATE}
    order = sorted(moderate, key=lambda name: moderate[name]["auc"], reverse=True)
    places = {name: place for place, name in enumerate(order)}
    shown = [
        strength
        for strength in STRENGTHS
        if any(row["strength"] == strength for row in table["rows"])
    ]
    height = 0.3 * len(order) + 0.95  # inches, of which 0.5 below and 0.45 above the axes
    figure, axes = new_figure("AUC", width=6.4, height=height)
    axes.set_position((0.23, 0.5 / height, 0.74, 0.3 * len(order) / height))
    axes.axvline(
        table["clean"]["auc"], color=INK, linewidth=1.2, linestyle="--", label="as they are"
    )
    if "moderate" in table:
        axes.axvline(
            table["moderate"]["auc"],
            color=MUTED,
            linewidth=1.2,
            linestyle=":",
            label="mean of moderate",
        )
    offsets = {1: (0.0,), 2: (0.14, -0.14), 3: (0.2, 0.0, -0.2)}[len(shown)]
    for strength, offset in zip(shown, offsets, strict=True):
        rows = [row for row in table["rows"] if row["strength"] == strength]
        y = [places[row["condition"]] + offset for row in rows]
        colour = _COLOURS[strength] if len(shown) > 1 else ACCENT
        lows, highs = zip(*(_ends(row, table["clean"]["auc"]) for row in rows), strict=True)
        axes.hlines(y, lows, highs, color=colour, alpha=0.4, linewidth=2)
        axes.plot(
            [row["auc"] for row in rows], y, "o", color=colour, markersize=4.5, label=strength
        )
    axes.set_yticks(range(len(order)), order)
    axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=8.5)
    axes.set_ylim(-0.6, len(order) - 0.4)
    figure.legend(
        loc="upper center", ncols=len(shown) + 2, bbox_to_anchor=(0.58, 1.0), columnspacing=1.2
    )
    caption = "Bars are 95 % intervals of the drop, resampled by patient."
    return picture(figure, "stress", "AUC under stress", caption)


def _ends(row: dict[str, Any], clean: float) -> tuple[float, float]:
    """The interval of the drop, as one of the AUC."""
    drop = row["drop"]
    if drop["low"] is None:
        return row["auc"], row["auc"]
    return max(clean - drop["high"], 0.0), min(clean - drop["low"], 1.0)
