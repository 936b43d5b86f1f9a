"""`cxr-run`: from a source of radiographs to a report, a `.tflite` and its first predictions."""

from __future__ import annotations

import importlib.metadata
import io
import re
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from cxr_tfds import run_folder
from cxr_tfds.commands import options
from cxr_tfds.commands.base import Command, Interrupted, LocalPath, NearestChoice, is_debug
from cxr_tfds.commands.data_build import announce, show_progress
from cxr_tfds.errors import InputError, Undecided
from cxr_tfds.files import write_files
from cxr_tfds.locks import lock_folder
from cxr_tfds.reading.datasets import BuiltDataset, open_dataset
from cxr_tfds.reading.run_data import is_trained_on
from cxr_tfds.sources.config_json import format_sets, parse_config
from cxr_tfds.training.settings import TrainSettings, read_run_config

if TYPE_CHECKING:
    import numpy as np

    from cxr_tfds.building.build import Built

_EXAMPLES = 4  # images of each class
_LETTERS = 40  # of a name
_NONE = "none"
_ANSWER = "{}-class.txt"  # in the folder of the dataset
_RESUMING = "Complete steps are not repeated. To continue, type the same command again."


@click.command(
    cls=Command,
    example="cxr-run my-images --out first",
    groups={
        "Output": ("out", "overwrite"),
        "Source": ("dataset", "config", "sets"),
        "Training": ("epochs",),
    },
)
@click.argument("source", type=LocalPath(path_type=Path))
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the dataset, the run folder, the models and the predictions.",
)
@options.dataset
@options.config
@options.sets
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    show_default="as cxr-train",
    help="Number of passes over the training images. Three are enough for a first look.",
)
@click.option("--overwrite", is_flag=True, help="Do every step again and replace its files.")
@options.version
def run(
    source: Path,
    out: Path,
    dataset: str | None,
    config: str,
    sets: dict[str, Any],
    epochs: int | None,
    overwrite: bool,
) -> None:
    """Make a classifier from the radiographs in SOURCE, a folder or an archive.

    Builds a dataset, trains a model, exports it and predicts some images of the test split. Prints
    the command of each step, so that you can repeat one with other options. If it is interrupted,
    the same command continues.
    """
    click.get_current_context().with_resource(lock_folder(out))
    try:
        built = _build(
            source, out / "data", dataset, parse_config(config) | sets, overwrite=overwrite
        )
        trained = _train(built, out, epochs, overwrite=overwrite)
        models = _export(trained, out, overwrite=overwrite)
        answers = _predict(built, models, out)
    except (KeyboardInterrupt, click.Abort, Interrupted):
        raise Interrupted(f"Interrupted. {_RESUMING}") from None
    model = models[-1]
    click.echo(
        f"\nReport:       {trained / run_folder.REPORT}\n"
        f"Model:        {model}\n"
        f"Predictions:  {answers}\n"
        f"Your images:  {_quote('cxr-infer', 'predict', '--model', model)} FILE_OR_FOLDER\n"
        f"In a browser: {_quote('cxr-app', '--model', model)}"
    )


def _build(
    source: Path, data_dir: Path, dataset: str | None, settings: dict[str, Any], *, overwrite: bool
) -> Built:
    """Builds the dataset; asks for a setting that cannot be guessed, if there is a terminal."""
    from cxr_tfds.building.build import build_source, format_built

    while True:
        given = [word for setting in format_sets(settings) for word in ("--set", setting)]
        given += [f"--dataset={dataset}"] if dataset else []
        _print_command("cxr-data", "build", source, "--data-dir", data_dir, *given)
        try:
            with show_progress() as progress:
                built = build_source(
                    source,
                    data_dir,
                    dataset=dataset,
                    settings=settings,
                    overwrite=overwrite,
                    announce=announce,
                    progress=progress,
                )
        except Undecided as question:
            settings = settings | {question.setting: _answer(question, data_dir, overwrite)}
            continue
        click.echo(format_built(built, data_dir).partition("\nNext:")[0])
        return built


def _answer(question: Undecided, data_dir: Path, overwrite: bool) -> str:
    """Returns the answer of an earlier, interrupted command, or asks if there is a terminal."""
    path = data_dir / _ANSWER.format(question.setting)
    if path.is_file() and not overwrite:
        answer = path.read_text(encoding="utf-8")
        if answer in (*question.choices, ""):
            return answer
    if not _can_ask():
        raise question
    answer = _ask(question)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_files({path: answer})
    return answer


def _can_ask() -> bool:
    return sys.stdin.isatty()


def _ask(question: Undecided) -> str:
    text = f"Which of these is the {question.setting} class"
    choices = NearestChoice([*question.choices, _NONE], case_sensitive=False)
    answer = click.prompt(text, type=choices, err=True)
    return "" if answer == _NONE else answer


def _train(built: Built, out: Path, epochs: int | None, *, overwrite: bool) -> Path:
    """Trains, or continues an interrupted run; returns the run folder."""
    trained = out / "run"
    dataset = open_dataset(built.name, out / "data")
    is_started = (trained / run_folder.CONFIG).is_file() and not overwrite
    if is_started:
        _check_same_data(trained, dataset)
    if is_started and (trained / run_folder.MODEL).is_file():
        _check_same_epochs(trained, epochs)
        click.echo(f"\nAlready trained: {trained}", err=True)
        return trained
    words = ["--dataset", built.name, "--data-dir", out / "data", "--out", trained]
    words += ["--epochs", epochs] if epochs else []
    if (images := dataset.sizes["train"]) < TrainSettings.batch_size:
        words += ["--batch-size", images]
    words += ["--resume"] if is_started else []
    words += ["--overwrite"] if overwrite else []
    _print_command("cxr-train", *words)
    _call("cxr-train", *words)
    return trained


def _check_same_data(trained: Path, dataset: BuiltDataset) -> None:
    if not is_trained_on(read_run_config(trained), dataset):
        raise InputError(
            f"{trained} was trained on other images than {dataset.name}. Choose another --out, or "
            "add --overwrite to do every step again."
        )


def _check_same_epochs(trained: Path, epochs: int | None) -> None:
    before = read_run_config(trained).settings["epochs"]
    if epochs not in (None, before):
        raise InputError(
            f"{trained} was trained for {before} epochs, not {epochs}. Choose another --out, or "
            "add --overwrite to do every step again."
        )


def _export(trained: Path, out: Path, *, overwrite: bool) -> list[Path]:
    """Exports the run unless that was done; returns the files, the smallest last."""
    models = out / "models"
    if (models / "export.json").is_file() and not overwrite:
        click.echo(f"\nAlready exported: {models}", err=True)
    else:
        words = (trained, "--out", models, *["--overwrite"] * overwrite)
        _print_command("cxr-export", *words)
        _call("cxr-export", *words)
    files = sorted(models.glob("*.tflite"), key=lambda path: path.stat().st_size, reverse=True)
    if not files:
        raise InputError(f"{models} holds no .tflite. Add --overwrite to do every step again.")
    return files


def _predict(built: Built, models: list[Path], out: Path) -> Path:
    """Predicts some test images; returns the page of the predictions."""
    page, new = out / "predictions.html", out / ".predictions.new.html"
    new.unlink(missing_ok=True)  # of a killed process
    examples = _write_examples(built, out / "data", out / "examples")
    words = ("predict", "--model", models[-1], examples, "--html")
    _print_command("cxr-infer", *words, page)
    _call("cxr-infer", *words, new)
    new.replace(page)  # the earlier page stays until there is a new one
    return page


def _write_examples(built: Built, data_dir: Path, folder: Path) -> Path:
    """Writes the first images of each class in the test split, as the model sees them.

    The device leaves images of the right size unchanged.
    """
    from PIL import Image

    dataset = open_dataset(built.name, data_dir)
    split = "test" if dataset.sizes.get("test") else "validation"
    folder.mkdir(parents=True, exist_ok=True)
    earlier = set(folder.glob("*.png"))  # of an earlier dataset
    written: Counter[str] = Counter()
    contents: dict[Path, str | bytes] = {}
    for images, _, ids in dataset.batches(split, with_ids=True).as_numpy_iterator():
        for image, label, image_id in zip(images, ids["label"], ids["image_id"], strict=True):
            name = _name_label(label, dataset.labels)
            written[name] += 1
            if written[name] <= _EXAMPLES:
                source_name = PurePosixPath(image_id.decode()).stem[-_LETTERS:]
                stem = re.sub(r"[^\w-]+", "_", f"{name[:_LETTERS]}-{written[name]}-{source_name}")
                png = io.BytesIO()
                Image.fromarray(image.squeeze()).save(png, "PNG")
                contents[folder / f"{stem}.png"] = png.getvalue()
    write_files(contents)
    for path in earlier - set(contents):
        path.unlink()
    return folder


def _name_label(label: np.ndarray, labels: Sequence[str]) -> str:
    """Returns the class of an image, or the findings that are present."""
    if label.ndim == 0:
        return labels[int(label)]
    return "+".join(name for name, state in zip(labels, label, strict=True) if state == 1) or "none"


def _call(command: str, *words: object) -> None:
    """Calls a command of the family in this process."""
    words += ("--debug",) * is_debug(click.get_current_context())
    (script,) = importlib.metadata.entry_points(group="console_scripts", name=command)
    script.load().main([str(word) for word in words], prog_name=command, standalone_mode=False)


def _print_command(*words: object) -> None:
    click.echo(f"\n$ {_quote(*words)}", err=True)


def _quote(*words: object) -> str:
    return shlex.join(str(word) for word in words)
