"""`cxr-infer` predicts radiographs on the device, without TensorFlow.

Commands import what they need: `--help` loads neither NumPy nor a runtime.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxr_tfds import __version__
from cxr_tfds.commands.base import Group, LocalPath
from cxr_tfds.commands.settings import sets
from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.native import suppress_native_stderr
from cxr_tfds.text import is_terminal, printable, say, to_json

from . import options

if TYPE_CHECKING:
    from .classifier import Classifier
    from .input_files import InputFile
    from .prediction import Prediction

_MIN_FOR_PROGRESS = 9  # images


@click.group(cls=Group, example="cxr-infer predict -m models/first-int8.tflite images")
@click.version_option(__version__, prog_name="cxr-infer")
def cli() -> None:
    """Classify chest radiographs with a model of cxr-export. Not a medical device."""


@cli.command(
    example="cxr-infer predict -m models/first-int8.tflite images --csv",
    groups={
        "Model": ("model", "trust", "runtime", "threads"),
        "Decision": ("threshold", "sensitivity"),
        "Output": ("as_json", "as_csv", "heatmap_dir", "html"),
    },
)
@options.model
@click.argument(
    "images",
    nargs=-1,
    required=True,
    metavar="FILE|FOLDER|-...",
    type=LocalPath(exists=True, allow_dash=True),
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an object for each image.")
@click.option(
    "--csv",
    "as_csv",
    is_flag=True,
    help="Print CSV with a column for the probability of each class; or for a model of several "
    "findings, a row for each: file,finding,present,probability,threshold,error.",
)
@click.option(
    "--heatmap-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="New folder for JPEG files that show the heat map over each radiograph.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="New HTML file with a thumbnail, the heat map and the probabilities of each image, about "
    "13 KB an image.",
)
@options.threshold
@options.sensitivity
@options.runtime
@options.threads
def predict(
    model: Path,
    images: tuple[str, ...],
    as_json: bool,
    as_csv: bool,
    heatmap_dir: Path | None,
    html: Path | None,
    threshold: str | None,
    sensitivity: float | None,
    runtime: str,
    threads: int,
) -> None:
    """Predict radiographs and print each result at once; - reads standard input.

    Each row names the class of the probability, the rule and the label, such as PNEUMONIA 16 %
    (predicted from 47 %) -> NORMAL. A model of several findings prints a row for each finding.
    Folders are searched recursively. Files that are not radiographs are reported, and the exit code
    is then 1.
    """
    with _collection_paused():
        from .input_files import STDIN, check_folders, list_files
        from .output import make_style, write_rows
        from .predict import predict_files

    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other.")
    if images.count(STDIN) > 1:
        raise click.UsageError("Standard input contains one image; give - only once.")
    check_folders(images)
    classifier = _load(model, runtime, threads, threshold, sensitivity)
    heatmaps = page = None
    if heatmap_dir is not None:
        from .heatmaps import HeatmapFolder

        heatmaps = HeatmapFolder(heatmap_dir, classifier.info)
    if html is not None:
        from .html_page import PredictionPage

        page = PredictionPage(html, classifier.info, model.name)
    name = "json" if as_json else "csv" if as_csv else "text"
    style = make_style(name, classifier.info)
    on_screen = is_terminal(sys.stdout)
    counts = {"images": 0, "failed": 0}

    # Counting the images would consume standard input. On a screen the rows show the progress.
    shows_progress = not on_screen and STDIN not in images
    files = _with_progress(lambda: list_files(images, heatmap_dir), is_shown=shows_progress)

    def format_rows() -> Iterator[str]:
        for file, result in predict_files(classifier, files, heatmaps, page):
            counts["images"] += 1
            if isinstance(result, BadImage):
                counts["failed"] += 1
                if name != "text" or not on_screen:  # the text shows errors
                    _report(file, result)
            yield style.format(file.name, result)

    with heatmaps or contextlib.nullcontext(), page or contextlib.nullcontext():
        write_rows(format_rows(), *style.frame)
    if name == "text":
        click.echo("Not a medical device.", err=True)
    if counts["failed"]:
        raise InputError(f"{counts['failed']} of {counts['images']} images could not be read.")


@cli.command(example="cxr-infer evaluate -m models/first-int8.tflite images/test")
@options.model
@click.argument("source", metavar="FOLDER", type=LocalPath(exists=True, path_type=Path))
@click.option(
    "--config",
    help="Settings that describe how to read FOLDER, in JSON, with the keys of cxr-data --config. "
    "[default: the settings of the model's dataset]",
)
@sets
@click.option("--json", "as_json", is_flag=True, help="Print JSON with the metrics as keys.")
@options.threshold
@options.sensitivity
@options.runtime
@options.threads
def evaluate(
    model: Path,
    source: Path,
    config: str | None,
    sets: dict[str, Any],
    as_json: bool,
    threshold: str | None,
    sensitivity: float | None,
    runtime: str,
    threads: int,
) -> None:
    """Measure a model on FOLDER, a folder or archive of labelled radiographs.

    FOLDER is read as cxr-data summary reads it, with the classes of the model. If it has splits,
    only its test split is measured. Metrics have 95% bootstrap intervals; they resample patients,
    or images whose patient is unknown.
    """
    from cxr_tfds.metrics.table import format_metrics

    from .evaluate import find_labelled_images, measure, parse_settings
    from .output import write
    from .predict import predict_files

    settings = parse_settings(config or "{}", sets) if config or sets else None
    classifier = _load(model, runtime, threads, threshold, sensitivity)
    labelled = find_labelled_images(source, classifier.info, settings)
    for note in labelled.notes:
        say(note)

    def predict_and_report() -> Iterator[Prediction | BadImage]:
        for file, result in predict_files(classifier, _with_progress(lambda: labelled.files)):
            if isinstance(result, BadImage):
                _report(file, result)
            yield result

    table = measure(classifier.info, labelled, predict_and_report())
    write((to_json(table, indent=2) if as_json else format_metrics(table)) + "\n")
    if skipped := len(table["skipped"]):
        raise InputError(f"{skipped} of {skipped + table['images']} images could not be read.")


@cli.command(example="cxr-infer benchmark -m models/first-int8.tflite")
@options.model
@click.option(
    "--images",
    type=LocalPath(exists=True, file_okay=False, path_type=Path),
    help="Folder of radiographs to measure with.  [default: a generated JPEG of 1280 x 1100]",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, an object for each row.")
def benchmark(model: Path, images: Path | None, as_json: bool) -> None:
    """Time a model in each installed runtime, with 1 thread up to one for each core.

    Milliseconds: load_ms (imports and loading), first_ms (first prediction), startup_ms (process
    start to first prediction), median_ms and p95_ms (prediction), decode_ms (decoding and fitting
    an image). peak_mb is the peak memory.
    """
    from .benchmark import benchmark_runtimes, count_rows, format_table
    from .model_file import read_model
    from .output import write

    read_model(model)  # reports an invalid file once, not in every row
    measured = benchmark_runtimes(model, images)
    with click.progressbar(
        measured, length=count_rows(), label="Measuring", file=sys.stderr
    ) as found:
        rows = list(found)
    write((to_json(rows, indent=2) if as_json else format_table(rows)) + "\n")
    if all("error" in row for row in rows):
        raise InputError("No runtime could run the model.")


@cli.command(example="cxr-infer info -m models/first-int8.tflite")
@options.model
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--card", "as_card", is_flag=True, help="Print the model card, a text for people.")
def info(model: Path, as_json: bool, as_card: bool) -> None:
    """Print what is stored in a model file, and Python that runs it without cxr-tfds."""
    from cxr_tfds.sources.origin import DRAWN

    from .description import describe_file, format_description
    from .model_file import read_model
    from .output import write

    if as_json and as_card:
        raise click.UsageError("--json and --card exclude each other.")
    flatbuffer, model_info, card = read_model(model)
    if as_card:
        if card is None:
            raise InputError(
                f"{model} contains no MODEL_CARD.md. Export it again from a run folder that has "
                "one."
            )
        write(printable(card, keep="\n"))
        return
    description = describe_file(model, flatbuffer, model_info)
    if as_json:
        write(to_json(description, indent=2) + "\n")
        return
    if description["dataset"]["origin"]["drawn"]:
        say(DRAWN)
    write(printable(format_description(description, model_info), keep="\n"))


def _load(
    model: Path, runtime: str, threads: int, threshold: str | None, sensitivity: float | None
) -> Classifier:
    """Returns the classifier, and reports a threshold that was chosen for it."""
    with _collection_paused():
        from .classifier import Classifier

    if threshold is not None and sensitivity is not None:
        raise click.UsageError("--threshold and --sensitivity exclude each other.")
    with suppress_native_stderr(), _collection_paused():
        classifier = Classifier(
            model, runtime, threads, threshold=threshold, sensitivity=sensitivity
        )
    if threshold is not None or sensitivity is not None:
        from .operating_point import describe_threshold

        say("\n".join(describe_threshold(classifier.info)))
    return classifier


@contextlib.contextmanager
def _collection_paused() -> Iterator[None]:
    """Pauses the garbage collector, which would search everything that is imported several times.

    Imported objects stay until the end, so they are not searched afterwards either.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def _report(file: InputFile, error: BadImage) -> None:
    click.echo(printable(f"{file.name}: {error.reason}"), err=True)


def _with_progress(
    list_items: Callable[[], Iterable[InputFile]], *, is_shown: bool = True
) -> Iterator[InputFile]:
    """Yields the items, with a progress bar if there are many and stderr is a screen."""
    count = sum(1 for _ in list_items()) if is_shown and is_terminal(sys.stderr) else 0
    if count < _MIN_FOR_PROGRESS:
        yield from list_items()
        return
    with click.progressbar(list_items(), length=count, file=sys.stderr) as items:
        yield from items
