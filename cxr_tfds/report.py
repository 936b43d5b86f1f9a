"""`report.html`: one self-contained page about a run."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from cxr_tfds import run_folder
from cxr_tfds.evaluation import Scores
from cxr_tfds.run_folder import RunConfig

_SIZE_INCHES = (4.6, 3.4)
_COLOURS = ("#2a6f97", "#c1443c", "#6a994e", "#e09f3e", "#7b5ea7")


def write_report(run: Path, config: RunConfig, measured: dict[str, Any], scores: dict[str, Scores], model: Any) -> None:
    """Writes `report.html` into the run folder: figures, curves, settings, environment, limits."""
    split = list(scores)[-1]  # test where there is one
    pictures = {"Training": _curves(run)}
    if scores[split].logits.ndim == 1:
        of = scores[split]
        pictures["Confusion"] = _confusion(measured[split]["confusion_matrix"], config.labels)
        pictures["ROC"] = _roc(of)
        pictures["Precision and recall"] = _precision_recall(of)
        pictures["Scores by class"] = _histogram(of, config)
        pictures["Calibration"] = _calibration(of)
    environment = Environment(loader=PackageLoader("cxr_tfds", ""), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("report.html.j2").render(
        run=run.resolve().name,
        config=config,
        measured=measured,
        split=split,
        pictures=pictures,
        parameters=model.count_params(),
        intervals={
            name: value for name, value in measured[split].items() if isinstance(value, dict) and "low" in value
        },
    )
    with run_folder.whole_file(run / run_folder.REPORT) as beside:
        beside.write_text(page, encoding="utf-8")


def _figure(x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure) -> Markup:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :])  # drawn by us from numbers: nothing to escape


def _curves(run: Path) -> Markup:
    with (run / run_folder.HISTORY).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in rows]
    figure, axes = _figure("epoch", "loss")
    for colour, name in zip(_COLOURS, ("loss", "val_loss"), strict=False):
        axes.plot(epochs, [float(row[name]) for row in rows], color=colour, label=name, marker=".")
    metric = next(name for name in rows[0] if name in ("val_auc", "val_accuracy"))
    right = axes.twinx()
    right.plot(epochs, [float(row[metric]) for row in rows], color=_COLOURS[2], label=metric, marker=".")
    right.set_ylabel(metric)
    right.spines["top"].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return _svg(figure)


def _confusion(counts: dict[str, int], labels: tuple[str, ...]) -> Markup:
    table = np.array([[counts["tn"], counts["fp"]], [counts["fn"], counts["tp"]]])
    figure, axes = _figure("decided", "truth")
    axes.imshow(table, cmap="Blues", vmin=0)
    for row, column in np.ndindex(2, 2):
        value = table[row, column]
        axes.text(
            column,
            row,
            f"{value}",
            ha="center",
            va="center",
            color="white" if value > table.max() / 2 else "black",
        )
    axes.set_xticks([0, 1], labels)
    axes.set_yticks([0, 1], labels)
    return _svg(figure)


def _sweep(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives at every distinct threshold, from strict to lenient, ties together."""
    order = np.argsort(-scores.logits, kind="stable")
    labels, logits = scores.labels[order], scores.logits[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(logits)), len(logits) - 1)
    hits = np.cumsum(labels)[last_of_tie]
    return np.append(0, hits), np.append(0, last_of_tie + 1 - hits)


def _roc(scores: Scores) -> Markup:
    hits, alarms = _sweep(scores)
    figure, axes = _figure("1 - specificity", "sensitivity")
    axes.plot(alarms / max(alarms[-1], 1), hits / max(hits[-1], 1), color=_COLOURS[0])
    axes.plot([0, 1], [0, 1], color="#bbb", linewidth=1)
    return _svg(figure)


def _precision_recall(scores: Scores) -> Markup:
    hits, alarms = (values[1:] for values in _sweep(scores))
    figure, axes = _figure("recall (sensitivity)", "precision (PPV)")
    axes.plot(hits / max(hits[-1], 1), hits / (hits + alarms), color=_COLOURS[0])
    axes.set_ylim(0, 1.02)
    return _svg(figure)


def _histogram(scores: Scores, config: RunConfig) -> Markup:
    figure, axes = _figure(f"probability of {config.labels[1]}", "images")
    parts = [scores.probabilities[scores.labels == value] for value in (0, 1)]
    axes.hist(parts, bins=np.linspace(0, 1, 21), label=config.labels, color=_COLOURS[:2], stacked=True)
    axes.axvline(config.threshold, color="black", linestyle="--", linewidth=1, label="threshold")
    axes.legend(frameon=False, loc="upper center")
    return _svg(figure)


def _calibration(scores: Scores, bins: int = 10) -> Markup:
    part = np.minimum((scores.probabilities * bins).astype(int), bins - 1)
    filled = [b for b in range(bins) if (part == b).any()]
    figure, axes = _figure("predicted probability", "observed frequency")
    axes.plot([0, 1], [0, 1], color="#bbb", linewidth=1)
    axes.plot(
        [scores.probabilities[part == b].mean() for b in filled],
        [scores.labels[part == b].mean() for b in filled],
        color=_COLOURS[0],
        marker="o",
    )
    return _svg(figure)
