"""Writes `report.html`, a self-contained page, with `MODEL_CARD.md` and PNG pictures."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from cxr_tfds import run_folder
from cxr_tfds.evaluation.conditions import CONDITIONS, MODERATE, STRENGTHS
from cxr_tfds.evaluation.scoring import ImageSample, Scores
from cxr_tfds.files import format_json, write_files
from cxr_tfds.models.weights import IMAGENET, NEW
from cxr_tfds.plotting import TIMES, class_colour, plot_style
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.report.dataset import summarize_dataset
from cxr_tfds.report.finding_plots import plot_findings
from cxr_tfds.report.gallery import collect_examples, data_url
from cxr_tfds.report.model_card import metric_label, write_sections
from cxr_tfds.report.plots import plot_scores, plot_training
from cxr_tfds.report.profile_plot import plot_profile
from cxr_tfds.report.stress_plot import plot_stress
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.run_profile import ProfileTable
from cxr_tfds.sources.origin import DRAWN
from cxr_tfds.task import Task
from cxr_tfds.text import DISCLAIMER, finalize_html, markdown, printable

_LOCAL = ("data_dir", "cache_dir", "data_service")  # settings that name places of a machine
_HEADLINES = {
    Task.BINARY: ("auc", "accuracy", "sensitivity", "specificity"),
    Task.MULTICLASS: ("auc", "accuracy", "balanced_accuracy"),
    Task.FINDINGS: ("auc", "average_precision", "sensitivity", "specificity"),
}


class RunResults(NamedTuple):
    """What a report is about."""

    dataset: BuiltDataset
    model: Any  # Keras
    split: str  # the split of the scores, the sample and the stress test
    scores: Scores
    sample: ImageSample
    metrics: dict[str, Any]  # content of `metrics.json`, by split
    stress: dict[str, Any] | None  # the split's table in `stress.json`, if measured
    profile: ProfileTable | None = None  # content of `profile.json`, if measured


def write_report(
    run: Path, config: RunConfig, results: RunResults, tables: Mapping[Path, Any] | None = None
) -> None:
    """Writes the report, the model card and the pictures to the run folder.

    They are one set with `tables`, JSON files of the run that they agree with: either all are
    written, or every earlier file is unchanged.
    """
    split, stress, labels = results.split, results.stress, config.labels
    metrics, scores = results.metrics[split], results.scores
    task = Task.choose(labels, several_findings=scores.several_findings)
    history = run_folder.read_history(run)
    with plot_style():
        if isinstance(config.threshold, tuple):
            score_pictures = plot_findings(scores, metrics, labels)
        else:
            score_pictures = plot_scores(scores, metrics, labels, config.threshold)
        groups, sheets = collect_examples(
            results.model, scores, results.sample, labels, config.threshold
        )
        training_pictures = plot_training(history)
        stress_picture = plot_stress(stress) if stress else None
        profile_picture = plot_profile(results.profile) if results.profile else None
    data = summarize_dataset(results.dataset)
    sections = write_sections(config, results.model, split, metrics, stress, data)
    context = {
        "run": run.resolve().name,
        "shell_run": shlex.quote(run.resolve().name),
        "config": config,
        "settings": _public_settings(config),
        "anonymous": bool(config.settings.get("anonymous")),
        "split": split,
        "metrics": metrics,
        "all_metrics": results.metrics,
        "metric_names": [
            name for name, value in metrics.items() if isinstance(value, dict) and "low" in value
        ],
        "headline": _HEADLINES[task],
        "mean": "mean " if task is Task.FINDINGS else "",
        "task": task.value,
        "counts": _describe_counts(config, metrics),
        "model": results.model,
        "layers": _layer_rows(results.model),
        "data": data,
        "sections": sections,
        "disclaimer": DISCLAIMER,
        "drawn": DRAWN,
        "score_pictures": score_pictures,
        "groups": groups,
        "training_pictures": training_pictures,
        "epochs": len(history),
        "profile": results.profile,
        "profile_picture": profile_picture,
        "stress": stress,
        "stress_findings": _stress_rows(stress) if stress else [],
        "stress_picture": stress_picture,
        "causes": {condition.name: condition.causes for condition in CONDITIONS},
        "strengths": STRENGTHS,
        "class_colour": class_colour,
        "times": TIMES,
    }
    page, card = _load_templates()
    pictures = filter(
        None, [*score_pictures, *training_pictures, stress_picture, profile_picture, *sheets]
    )
    contents: dict[Path, str | bytes] = {
        **{path: format_json(table) for path, table in (tables or {}).items()},
        run / run_folder.REPORT: page.render(context),
        run / run_folder.CARD: card.render(context),
        **{run / run_folder.PICTURES / f"{each.name}.png": each.png for each in pictures},
    }
    (run / run_folder.PICTURES).mkdir(exist_ok=True)
    write_files(contents)
    # Last, because a kill must not lose pictures. A model without errors has no sheet of errors.
    for path in set(run_folder.own_pictures(run)) - set(contents):
        path.unlink()


def _load_templates() -> tuple[Template, Template]:
    """Returns the templates of the page and of the model card; both escape what they show."""
    environment = Environment(
        loader=PackageLoader("cxr_tfds.report", ""), undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "markdown": markdown,
        "metric_label": metric_label,
        "percent": lambda value: "undefined" if value is None else f"{100 * value:.1f}%",
        "breakable": _breakable,
        "data_url": data_url,
    }
    of_page = environment.overlay(autoescape=True, finalize=finalize_html)
    return of_page.get_template("report.html.j2"), environment.get_template("model_card.md.j2")


def _public_settings(config: RunConfig) -> dict[str, Any]:
    """Returns the settings without folders, files and addresses of this machine."""
    settings = {name: value for name, value in config.settings.items() if name not in _LOCAL}
    if settings.get("weights", NEW) not in (NEW, IMAGENET):
        settings["weights"] = "a file"
    return settings


def _describe_counts(config: RunConfig, metrics: dict[str, Any]) -> str:
    """Returns the metrics of two classes as counts, which most people find easier to read."""
    if not isinstance(config.threshold, float):
        return ""
    counts, (negative, positive) = metrics["confusion_matrix"], config.labels
    sentences = []
    if positives := counts["tp"] + counts["fn"]:
        sentences.append(
            f"Of {positives} images labelled {positive}, the model detects {counts['tp']} and "
            f"misses {counts['fn']}."
        )
    if negatives := counts["tn"] + counts["fp"]:
        sentences.append(
            f"Of {negatives} images labelled {negative}, it predicts {counts['fp']} as {positive}."
        )
    return " ".join(sentences)


def _stress_rows(stress: dict[str, Any]) -> list[tuple[str, Any, str, float]]:
    """Returns each of several findings, its AUC, and the worst moderate condition with its AUC."""
    rows = []
    for name, clean in stress["clean"].get("findings", {}).items():
        if clean["auc"] is None:
            continue
        moderate = [row for row in stress["rows"] if row["strength"] == MODERATE]
        worst = min(moderate, key=lambda row: row["findings"][name]["auc"])
        rows.append((name, clean["auc"], worst["condition"], worst["findings"][name]["auc"]))
    return rows


def _layer_rows(model: Any) -> list[tuple[str, str, str, int]]:
    """Returns name, type, output shape and number of parameters of each layer."""
    rows = []
    for layer in model.layers:
        output = layer.output[0] if isinstance(layer.output, (list, tuple)) else layer.output
        shape = f" {TIMES} ".join("?" if side is None else str(side) for side in output.shape[1:])
        rows.append((layer.name, type(layer).__name__, shape, layer.count_params()))
    return rows


def _breakable(name: str) -> Markup:
    """Returns a file name that may be broken after / and _ instead of within a word."""
    return Markup("<wbr>").join(re.split(r"(?<=[/_])", printable(name)))
