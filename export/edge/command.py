"""`cxr-infer`: radiographs to predictions on the device, without TensorFlow.

Whatever a command needs is imported inside it: `--help` loads neither NumPy nor an interpreter.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxr_tfds import __version__
from cxr_tfds.commands.base import Group, NearestChoice
from cxr_tfds.errors import InputError
from cxr_tfds.native import suppress_native_stderr

if TYPE_CHECKING:
    from .classifier import Classifier
    from .listing import Found
    from .predict import Answer

RUNTIMES = ("auto", "litert", "tflite-runtime")
_FEW = 8  # images; more get a progress bar

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_model = click.option(
    "--model", required=True, type=_FILE, help="The .tflite written by cxr-export."
)
_runtime = click.option(
    "--runtime",
    type=NearestChoice(RUNTIMES),
    default="auto",
    show_default=True,
    help="Interpreter; auto takes litert if it is installed.",
)
_threads = click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Threads of the interpreter.",
)


@click.group(cls=Group)
@click.version_option(__version__, prog_name="cxr-infer")
def cli() -> None:
    """Classify chest radiographs with a model of cxr-export. Not a medical device."""


@cli.command()
@_model
@click.argument(
    "images",
    nargs=-1,
    required=True,
    metavar="FILE|FOLDER|-...",
    type=click.Path(exists=True, allow_dash=True),
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON array, an object for each image."
)
@click.option(
    "--csv", "as_csv", is_flag=True, help="Print CSV: file,label,probability,threshold,error."
)
@click.option(
    "--heatmap-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write each radiograph with the model's heatmap over it to this new folder, as PNG.",
)
@_runtime
@_threads
def predict(
    model: Path,
    images: tuple[str, ...],
    as_json: bool,
    as_csv: bool,
    heatmap_dir: Path | None,
    runtime: str,
    threads: int,
) -> None:
    """Label radiographs, one after the other as they are read; - is standard input.

    Of two classes the probability is that of the finding. Folders are searched with all folders
    inside them. A file that is no radiograph is reported, the others are answered, and the exit
    code is 1.
    """
    from .listing import STDIN, files
    from .output import FORMS, write_rows
    from .predict import answers

    if as_json and as_csv:
        raise click.UsageError("Give --json or --csv, not both.")
    _check_images(images)
    classifier = _load(model, runtime, threads)
    overlays = None
    if heatmap_dir is not None:
        from .overlay import Overlays

        overlays = Overlays(heatmap_dir, classifier)
    form = "json" if as_json else "csv" if as_csv else "table"
    on_screen = _is_screen(sys.stdout)
    bar = not on_screen and STDIN not in images  # to count the images would empty it
    tally = {"images": 0, "failed": 0}

    def rows() -> Iterator[str]:
        # On a screen the rows themselves tell the progress, and an error needs no second line.
        for file, answer in answers(classifier, _watched(lambda: files(images), bar=bar), overlays):
            tally["images"] += 1
            if isinstance(answer, str):
                tally["failed"] += 1
                if form != "table" or not on_screen:
                    click.echo(f"{click.format_filename(file.name)} {answer}", err=True)
            yield FORMS[form].row(file.name, answer, classifier.labels)

    write_rows(rows(), FORMS[form])
    if form == "table":
        of = (
            f"Probabilities are those of {classifier.labels[1]}. "
            if len(classifier.labels) == 2
            else ""
        )
        click.echo(f"{of}Not a medical device.", err=True)
    if tally["failed"]:
        raise InputError(f"{tally['failed']} of {tally['images']} images could not be read.")


@cli.command()
@_model
@click.argument("folder", type=_FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, metrics at the top level.")
@_runtime
@_threads
def evaluate(model: Path, folder: Path, as_json: bool, runtime: str, threads: int) -> None:
    """Measure a model on FOLDER, which holds a folder of radiographs for each class.

    Metrics come with 95% bootstrap intervals, images drawn one by one: folders tell no patients.
    """
    from cxr_tfds.metrics.table import as_text

    from .evaluate import measured
    from .listing import class_folders, images_in
    from .output import write
    from .predict import answers

    classifier = _load(model, runtime, threads)
    places, others = class_folders(folder, classifier.labels)
    if others:
        click.echo(f"Left out, no class of the model: {', '.join(others)}", err=True)

    def found() -> Iterator[Found]:
        return (file._replace(label=label) for label, place in places for file in images_in(place))

    table = measured(classifier.card, _reported(answers(classifier, _watched(found))), str(folder))
    write((json.dumps(table, indent=2) if as_json else as_text(table)) + "\n")
    if skipped := len(table["skipped"]):
        raise InputError(f"{skipped} of {skipped + table['images']} images could not be read.")


@cli.command()
@_model
@click.option(
    "--images",
    help="Radiographs to measure with.  [default: a drawn JPEG of 1280 x 1100]",
    type=_FOLDER,
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, an object for each row.")
def benchmark(model: Path, images: Path | None, as_json: bool) -> None:
    """Time a model in each installed interpreter, with 1 thread to as many as there are cores.

    Milliseconds: loading with all imports; the first run; process start to first answer; median and
    95th percentile of a run; decoding and fitting an image. Then the most memory held, in MB.
    """
    from .benchmark import benchmark as measured
    from .benchmark import table
    from .model_file import read_card
    from .output import write

    # A file that is no model is told once, not by every child.
    read_card(model)
    rows = list(measured(model, images))
    write((json.dumps(rows, indent=2) if as_json else table(rows)) + "\n")
    if all("error" in row for row in rows):
        raise InputError("No interpreter could run the model.")


@cli.command()
@_model
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--card", "as_card", is_flag=True, help="Print the model card, for people.")
def info(model: Path, as_json: bool, as_card: bool) -> None:
    """Print what a model file says of itself."""
    from dataclasses import asdict

    from .model_file import read_card, read_model_card
    from .output import lines, write

    if as_json and as_card:
        raise click.UsageError("Give --json or --card, not both.")
    if as_card:
        write(read_model_card(model))
        return
    facts = {"file": str(model), "bytes": model.stat().st_size, **asdict(read_card(model))}
    write((json.dumps(facts, indent=2) if as_json else lines(facts)) + "\n")


def _load(model: Path, runtime: str, threads: int) -> Classifier:
    from .classifier import Classifier

    with suppress_native_stderr():
        return Classifier(model, runtime, threads)


def _check_images(names: tuple[str, ...]) -> None:
    """Before the model is loaded: each folder holds images, and standard input is asked for once."""
    from cxr_tfds.imaging.pixels import SUFFIXES

    from .listing import STDIN, images_in

    if names.count(STDIN) > 1:
        raise click.UsageError("Standard input holds one image; give - once.")
    for folder in filter(Path.is_dir, map(Path, names)):
        if next(images_in(folder), None) is None:
            raise InputError(f"{folder} holds no images ({' '.join(sorted(SUFFIXES))}).")


def _reported(answers: Iterable[Answer]) -> Iterator[Answer]:
    """The answers; those that are none are told on the way."""
    for file, answer in answers:
        if isinstance(answer, str):
            click.echo(f"{click.format_filename(file.name)} {answer}", err=True)
        yield file, answer


def _watched(items: Callable[[], Iterable[Found]], *, bar: bool = True) -> Iterator[Found]:
    """The items, under a progress bar if there are more than a few and someone may look at it."""
    count = sum(1 for _ in items()) if bar and _is_screen(sys.stderr) else 0
    if count <= _FEW:
        yield from items()
        return
    with click.progressbar(items(), length=count, file=sys.stderr) as steps:
        yield from steps


def _is_screen(stream: Any) -> bool:
    return stream is not None and stream.isatty()  # None: the process was started without it
