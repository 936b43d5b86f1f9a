"""`report.html`: one self-contained page about a run, beside it `MODEL_CARD.md` and the pictures as PNG."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cxr_tfds import run_folder
from cxr_tfds.evaluation.conditions import CONDITIONS, STRENGTHS
from cxr_tfds.evaluation.scoring import Kept, Scores
from cxr_tfds.files import complete_file
from cxr_tfds.plotting import TIMES, Picture, colour_of, drawing
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.report import card, curves, diagram, gallery, history, robustness
from cxr_tfds.report.data import facts_of
from cxr_tfds.run_folder import RunConfig

_HEADLINE = ("auc", "accuracy", "sensitivity", "specificity")
_HEADLINE_CLASSES = ("auc", "accuracy", "balanced_accuracy")


class Measured(NamedTuple):
    """What was found out about a run."""

    dataset: BuiltDataset
    model: Any  # Keras
    split: str  # the one the page is about
    scores: Scores  # of that split
    kept: Kept  # its images
    tables: dict[str, Any]  # `metrics.json`, by split
    stress: dict[str, Any] | None  # `stress.json` of that split


def write_report(run: Path, config: RunConfig, found: Measured) -> None:
    """Writes the page, the card and the pictures into the run folder; each file appears whole."""
    table = found.tables[found.split]
    past = history.read_history(run)
    with drawing():
        scored = curves.pictures_of(found.scores, table, config.labels, config.threshold)
        groups, sheets = gallery.groups_of(
            found.model, found.scores, found.kept, config.labels, config.threshold
        )
        training = history.pictures_of(past)
        stress = robustness.picture_of(found.stress) if found.stress else None
        layers = diagram.picture_of(found.model)
    data = facts_of(found.dataset, found.split, found.scores)
    sections = card.sections(config, found.model, found.split, table, found.stress, data)
    environment = Environment(
        loader=PackageLoader("cxr_tfds.report", ""), undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"spelled": card.spelled, "percent": _percent, "breakable": _breakable}
    facts = {
        "run": run.resolve().name, "config": config, "table": table, "split": found.split, "sections": sections,
    }  # fmt: skip
    page = environment.overlay(autoescape=True).get_template("report.html.j2")
    _write(
        run / run_folder.REPORT,
        page.render(
            **facts,
            path=shlex.quote(str(run.resolve())),
            model=found.model,
            no_device=card.NO_DEVICE,
            headline=[
                name
                for name in (_HEADLINE if config.threshold is not None else _HEADLINE_CLASSES)
                if name in table
            ],
            in_numbers=in_numbers(config, table),
            scored=scored,
            groups=groups,
            training=training,
            epochs=len(past),
            stress=found.stress,
            stress_picture=stress,
            conditions={condition.name: condition for condition in CONDITIONS},
            strengths=STRENGTHS,
            layers=layers,
            data=data,
            tables=found.tables,
            metrics=[
                name for name, value in table.items() if isinstance(value, dict) and "low" in value
            ],
            colour=colour_of,
            times=TIMES,
        ),
    )
    _write(run / run_folder.CARD, environment.get_template("model_card.md.j2").render(**facts))
    shown = [*scored, *training, *([stress] if stress else []), layers, *sheets]
    _write_pictures(run, shown)


def in_numbers(config: RunConfig, table: dict[str, Any]) -> str:
    """The figures of two classes as counts of images, which most people read more easily."""
    if config.threshold is None:
        return ""
    counts = table["confusion_matrix"]
    sick, well = counts["tp"] + counts["fn"], counts["tn"] + counts["fp"]
    parts = [
        f"Of {sick} images with {config.labels[1]} the model finds {counts['tp']} and misses {counts['fn']}."
    ] * bool(sick)
    parts += [f"Of {well} with {config.labels[0]} it calls {counts['fp']} falsely."] * bool(well)
    return " ".join(parts)


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.1f} %"


def _write(path: Path, text: str) -> None:
    with complete_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _breakable(name: str) -> Markup:
    """A file's name that may be broken after / and _ rather than within a word."""
    return Markup("<wbr>").join(re.split(r"(?<=[/_])", name))


def _write_pictures(run: Path, pictures: Sequence[Picture]) -> None:
    """Those of an earlier report go: a run that is wrong about nothing any more has no such sheet."""
    folder = run / run_folder.PICTURES
    folder.mkdir(exist_ok=True)
    for old in run_folder.own_pictures(run):
        old.unlink()
    for each in pictures:
        with complete_file(folder / f"{each.name}.png") as beside:
            beside.write_bytes(each.png)
