"""The picture of `profile.json`: the time of each stage of a run."""

from __future__ import annotations

from cxr_tfds.plotting import ACCENT, INK, SECOND, Picture, new_figure, render_picture
from cxr_tfds.run_profile import OF_AN_EPOCH, STAGES, ProfileTable, describe_load
from cxr_tfds.text import percent

_ROW = 0.3  # inches


def plot_profile(table: ProfileTable) -> Picture:
    """Returns a bar for each stage, in the order of a run."""
    seconds = table["seconds"]
    total = sum(seconds.values()) or 1
    height = _ROW * len(STAGES) + 0.85  # 0.5 inches below the axes and 0.35 above
    figure, axes = new_figure("seconds", width=6.4, height=height)
    axes.set_position((0.18, 0.5 / height, 0.79, _ROW * len(STAGES) / height))
    colours = [ACCENT if stage in OF_AN_EPOCH else SECOND for stage in STAGES]
    values = [seconds[stage] for stage in STAGES]
    axes.barh(range(len(STAGES)), values, height=0.62, color=colours)
    for row, value in enumerate(values):
        text = f"{value:,.1f} s, {percent(value / total, 1)}"
        axes.annotate(
            text, (value, row), (5, 0), textcoords="offset points", va="center", fontsize=8,
            color=INK,
        )  # fmt: skip
    axes.set_yticks(range(len(STAGES)), STAGES)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=8.5)
    axes.set_xlim(0, 1.22 * (max(values) or 1))  # room for the text of the longest bar
    for label, colour in (("in every epoch", ACCENT), ("once", SECOND)):
        axes.barh([0], [0], color=colour, label=label)
    figure.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.57, 1), columnspacing=1.2)
    load = ". ".join(describe_load(table))
    caption = f"The augmentation is estimated from calls of its own. {load}."
    return render_picture(figure, "profile", "Time of each stage", caption)
