"""`cxr-infer`: radiographs to predictions on the device, without TensorFlow.

Whatever a command needs is imported inside it: `--help` loads neither NumPy nor an interpreter.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cxr_tfds import __version__
from cxr_tfds.cli import Group, NearestChoice, native_stderr_closed
from cxr_tfds.errors import BadImage, InputError

if TYPE_CHECKING:
    from .classifier import Classifier, Prediction

_T = TypeVar("_T")
_Answer = tuple[Path, "Prediction | str"]

RUNTIMES = ("auto", "litert", "tflite-runtime")
SUFFIXES = frozenset({".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo"})
SUFFIXES |= {".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
_FEW = 8  # images; more get a progress bar

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_model = click.option("--model", required=True, type=_FILE, help="The .tflite written by cxr-export.")
_runtime = click.option(
    "--runtime",
    type=NearestChoice(RUNTIMES),
    default="auto",
    show_default=True,
    help="Interpreter; auto takes litert if it is installed.",
)
_threads = click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of the interpreter."
)


@click.group(cls=Group)
@click.version_option(__version__, prog_name="cxr-infer")
def cli() -> None:
    """Classify chest radiographs with a model of cxr-export. Not a medical device."""


@cli.command()
@_model
@click.argument(
    "images", nargs=-1, required=True, metavar="FILE|FOLDER...", type=click.Path(exists=True, path_type=Path)
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, an object for each image.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: file,label,probability,threshold,error.")
@_runtime
@_threads
def predict(model: Path, images: tuple[Path, ...], as_json: bool, as_csv: bool, runtime: str, threads: int) -> None:
    """Label radiographs, one after the other as they are read.

    Of two classes the probability is that of the finding. Folders are searched with all folders
    inside them. A file that is no radiograph is reported, the others are answered, and the exit
    code is 1.
    """
    if as_json and as_csv:
        raise click.UsageError("Give --json or --csv, not both.")
    for folder in filter(Path.is_dir, images):
        if next(_images_in(folder), None) is None:
            raise InputError(f"{folder} holds no images ({' '.join(sorted(SUFFIXES))}).")
    classifier = _load(model, runtime, threads)
    form = "json" if as_json else "csv" if as_csv else "table"
    on_screen = _is_screen(sys.stdout)
    tally = {"images": 0, "failed": 0}

    def answers() -> Iterator[_Answer]:
        # On a screen the rows themselves tell the progress, and an error needs no second line.
        for path in _watched(lambda: _files(images), bar=not on_screen):
            answer = _answer(classifier, path)
            tally["images"] += 1
            if isinstance(answer, str):
                tally["failed"] += 1
                if form != "table" or not on_screen:
                    click.echo(f"{click.format_filename(path)} {answer}", err=True)
            yield path, answer

    for text in {"json": _json, "csv": _csv, "table": _table}[form](answers(), classifier.labels):
        click.echo(text, nl=False)
    if form == "table":
        of = f"Probabilities are those of {classifier.labels[1]}. " if len(classifier.labels) == 2 else ""
        click.echo(f"{of}Not a medical device.", err=True)
    if tally["failed"]:
        raise InputError(f"{tally['failed']} of {tally['images']} images could not be read.")


@cli.command()
@_model
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, metrics at the top level.")
@_runtime
@_threads
def evaluate(model: Path, folder: Path, as_json: bool, runtime: str, threads: int) -> None:
    """Measure a model on FOLDER, which holds a folder of radiographs for each class.

    Metrics come with 95% bootstrap intervals, images drawn one by one: folders tell no patients.
    """
    import numpy as np

    from cxr_tfds.figures import as_text, figures

    classifier = _load(model, runtime, threads)
    card = classifier.card
    folders = _class_folders(folder, card.labels)
    known: list[int] = []
    found: list[tuple[float, ...]] = []
    skipped = []
    for label, path in _watched(lambda: ((k, inside) for k, place in folders for inside in _images_in(place))):
        answer = _answer(classifier, path)
        if isinstance(answer, str):
            skipped.append({"file": str(path), "error": answer})
            click.echo(f"{click.format_filename(path)} {answer}", err=True)
        else:
            known.append(label)
            found.append(answer.probabilities)
    empty = [label for index, label in enumerate(card.labels) if index not in known]
    if empty:
        raise InputError(f"{folder} holds no radiograph of {', '.join(empty)} that can be read.")
    scores = np.array(found) if card.threshold is None else np.array(found)[:, 1]
    table = {**figures(known, scores, card.threshold), "skipped": skipped}
    click.echo(json.dumps(table, indent=2) if as_json else as_text(table))
    if skipped:
        raise InputError(f"{len(skipped)} of {len(skipped) + len(known)} images could not be read.")


@cli.command()
@_model
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(model: Path, as_json: bool) -> None:
    """Print what a model file says of itself."""
    from dataclasses import asdict

    from .model_file import read_card

    facts = {"file": str(model), "bytes": model.stat().st_size, **asdict(read_card(model))}
    click.echo(json.dumps(facts, indent=2) if as_json else _lines(facts))


def _load(model: Path, runtime: str, threads: int) -> Classifier:
    from .classifier import Classifier

    with native_stderr_closed():
        return Classifier(model, runtime, threads)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from _images_in(path)
        else:
            yield path


def _images_in(folder: Path) -> Iterator[Path]:
    """Image files by suffix, depth first in sorted order, without hidden ones."""

    def fail(err: OSError) -> None:
        raise err

    for place, folders, files in os.walk(folder, onerror=fail):
        # __MACOSX repeats the names beside it, without an image inside.
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(place, name)


def _class_folders(folder: Path, labels: tuple[str, ...]) -> list[tuple[int, Path]]:
    """(class, folder) of each folder named like a label, upper or lower case."""
    classes = {label.casefold(): index for index, label in enumerate(labels)}
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    places = [(classes[path.name.casefold()], path) for path in inside if path.name.casefold() in classes]
    if len({index for index, _ in places}) < len(labels):
        found = ", ".join(path.name for path in inside) or "no folders"
        raise InputError(f"{folder} holds {found}; expected a folder for each class: {', '.join(labels)}.")
    others = [path.name for path in inside if path.name.casefold() not in classes]
    if others:
        click.echo(f"Left out, no class of the model: {', '.join(others)}", err=True)
    return sorted(places)


def _answer(classifier: Classifier, path: Path) -> Prediction | str:
    """The prediction, or why there is none."""
    try:
        return classifier(path)
    except BadImage as err:
        return str(err)
    except OSError as err:
        return f"cannot be read: {err.strerror or err}"


def _watched(items: Callable[[], Iterable[_T]], *, bar: bool = True) -> Iterator[_T]:
    """The items, under a progress bar if there are more than a few and someone may look at it."""
    count = sum(1 for _ in items()) if bar and _is_screen(sys.stderr) else 0
    if count <= _FEW:
        yield from items()
        return
    with click.progressbar(items(), length=count, file=sys.stderr) as steps:
        yield from steps


def _is_screen(stream: Any) -> bool:
    return stream is not None and stream.isatty()  # None: the process was started without it


def _json(answers: Iterable[_Answer], labels: tuple[str, ...]) -> Iterator[str]:
    before = "[\n"
    for path, answer in answers:
        row: dict[str, Any] = {"file": str(path)}
        if isinstance(answer, str):
            row["error"] = answer
        else:
            row.update(label=answer.label, probability=answer.probability, threshold=answer.threshold)
            if answer.threshold is None:
                row["probabilities"] = dict(zip(labels, answer.probabilities, strict=True))
        yield before + json.dumps(row)
        before = ",\n"
    yield "\n]\n"


def _csv(answers: Iterable[_Answer], labels: tuple[str, ...]) -> Iterator[str]:
    import csv
    import io

    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(("file", "label", "probability", "threshold", "error"))
    for path, answer in answers:
        name = click.format_filename(path)
        if isinstance(answer, str):
            writer.writerow((name, "", "", "", answer))
        else:
            writer.writerow((name, answer.label, answer.probability, answer.threshold, ""))
        yield rows.getvalue()
        rows.seek(0)
        rows.truncate()


def _table(answers: Iterable[_Answer], labels: tuple[str, ...]) -> Iterator[str]:
    width = max(map(len, labels))
    for path, answer in answers:
        name = click.format_filename(path)
        if isinstance(answer, str):
            yield f"{'?':<{width}}  {name} {answer}\n"
        else:
            against = "" if answer.threshold is None else f" (threshold {answer.threshold:.3f})"
            yield f"{answer.label:<{width}}  {answer.probability:.3f}{against}  {name}\n"


def _lines(facts: dict[str, Any], before: str = "") -> str:
    """One `name: value` a line, nested names joined by dots."""
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict) and value.keys() == {"value", "low", "high"}:
            value = f"{value['value']:.3f} (95% interval {value['low']:.3f} to {value['high']:.3f})"
        elif isinstance(value, dict) and value:
            lines.append(_lines(value, f"{before}{name}."))
            continue
        elif isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value))
        lines.append(f"{before}{name}: {value}")
    return "\n".join(lines)
