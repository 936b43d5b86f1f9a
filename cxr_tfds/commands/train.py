"""`cxr-train`: a built dataset to a run folder."""

from __future__ import annotations

import contextlib
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cxr_tfds.augmentation.presets import FILLS, LIMITS, PRESETS, AugmentSettings
from cxr_tfds.commands.base import Command, NearestChoice
from cxr_tfds.errors import InputError
from cxr_tfds.files import check_new_folder
from cxr_tfds.models import MODELS, list_models
from cxr_tfds.native import load_tensorflow
from cxr_tfds.reading import CACHES
from cxr_tfds.reading.datasets import DatasetName, default_data_dir, known_datasets, named_settings
from cxr_tfds.reading.service import check_address
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.text import did_you_mean
from cxr_tfds.training.cluster import read_cluster
from cxr_tfds.training.recipes import RECIPES
from cxr_tfds.training.settings import (
    MAX_SEED,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
    TARGETS,
    TrainSettings,
    class_weights,
)

_DEFAULTS = TrainSettings(dataset="", data_dir="")


def _known_dataset(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    data_dir = ctx.params["data_dir"]
    try:
        name = DatasetName.parse(value)
    except ValueError as err:
        raise click.BadParameter(str(err), ctx, param) from None
    if name.dataset not in (known := known_datasets(data_dir)):
        raise click.BadParameter(did_you_mean(name.dataset, known), ctx, param)
    return str(name)


def _augment_changes(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, float | str]:
    changes: dict[str, float | str] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(
                f"{text!r}; expected NAME=VALUE such as rotation_deg=5.", ctx, param
            )
        if name not in ("fill", *LIMITS):
            raise click.BadParameter(did_you_mean(name, ["fill", *LIMITS]), ctx, param)
        try:
            changes[name] = value if name == "fill" else float(value)
        except ValueError:
            raise click.BadParameter(
                f"{text!r}: expected a number from 0 to {LIMITS[name]}.", ctx, param
            ) from None
        try:
            AugmentSettings(**{name: changes[name]})  # type: ignore[arg-type]
        except InputError as err:
            raise click.BadParameter(f"{text!r}: {err}", ctx, param) from None
    return changes


def _rule(text: str) -> None:
    from cxr_tfds.metrics.thresholds import check_rule  # NumPy, which `--help` does without

    check_rule(text)


def _checked(check: Callable[[str], object]) -> Callable:
    """A callback that refuses what `check` refuses, as wrong usage."""

    def callback(ctx: click.Context, param: click.Parameter, value: str) -> str:
        if ctx.get_parameter_source(param.name or "") is not ParameterSource.DEFAULT:
            try:
                check(value)
            except InputError as err:
                raise click.BadParameter(str(err), ctx, param) from None
        return value

    return callback


def _print_models(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        click.echo(list_models())
        ctx.exit()


def _setting(name: str, kind: click.ParamType | None, text: str, **more: Any) -> Callable:
    """An option for a field of `TrainSettings`, with its default."""
    default = getattr(_DEFAULTS, name)
    if default is None or default == 0:
        more = {"show_default": False, **more}
    option = f"--{name.replace('_', '-')}"
    return click.option(
        option, **{"type": kind, "default": default, "show_default": True, "help": text} | more
    )


_PART = click.FloatRange(0, 1, max_open=True)


@click.command(cls=Command)
@click.option(
    "--dataset",
    callback=_known_dataset,
    help="DATASET/CONFIG, such as chest_xray_pneumonia/224. Required.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=default_data_dir,
    is_eager=True,  # the known datasets are looked up there
    show_default="$TFDS_DATA_DIR or ~/tensorflow_datasets",
    help="Folder given to `tfds build --data_dir`.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Run folder to write.",
)
@click.option(
    "--recipe",
    type=NearestChoice(list(RECIPES)),
    help="A model with its own settings, as published or ours; what is given beside it comes before it.",
)
@click.option(
    "--list-models",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_models,
    help="Print the models and their sizes, and exit.",
)
@_setting(
    "target",
    NearestChoice(TARGETS),
    "What is learned: the label, or the finding (such as bacteria, virus).",
)
@_setting("model", NearestChoice(list(MODELS)), "Which network.")
@_setting(
    "weights",
    None,
    "What it starts from: none, imagenet, or the path of a file.",
    metavar="none|imagenet|PATH",
)
@_setting(
    "freeze_epochs",
    click.IntRange(min=0),
    "So many epochs first train the head alone; the rest at a tenth of the rate.",
)
@_setting("freeze", None, "This layer and all before it keep their weights.", metavar="LAYER")
@_setting("epochs", click.IntRange(min=1), "Passes over the training split.")
@_setting("steps_per_epoch", click.IntRange(min=1), "Batches an epoch.  [default: a pass]")
@_setting(
    "early_stopping",
    click.IntRange(min=0),
    "Stop after so many epochs without a lower validation loss; 0: never.",
)
@_setting("batch_size", click.IntRange(min=1), "Radiographs per step, on all devices together.")
@_setting("optimizer", NearestChoice(OPTIMIZERS), "Which one.")
@_setting(
    "learning_rate", click.FloatRange(0, 1, min_open=True, max_open=True), "Peak of the schedule."
)
@_setting(
    "schedule",
    NearestChoice(SCHEDULES),
    "To zero; or times 0.3 after 2 epochs without gain; or none.",
)
@_setting(
    "warm_up",
    _PART,
    "Part of the steps in which the rate rises.  [default: 0.05 before a cosine, else 0]",
)
@_setting("weight_decay", click.FloatRange(0, 1, max_open=True), "Decoupled, of AdamW.")
@_setting("clip_norm", click.FloatRange(0), "Largest norm of the gradients; 0: any.")
@_setting(
    "class_weight",
    None,
    "none, balanced, or a number for each class.",
    metavar="none|balanced|W,W…",
    callback=_checked(class_weights),
)
@_setting("label_smoothing", _PART, "Part of each label that is spread over all classes.")
@_setting(
    "average",
    _PART,
    "Decay of a moving average of the weights, such as 0.99, that is kept in their place; 0: none.",
)
@_setting(
    "precision", NearestChoice(PRECISIONS), "auto: mixed_float16 with a GPU, float32 without."
)
@_setting("augment", NearestChoice(list(PRESETS)), "How strongly training images are changed.")
@click.option(
    "--augment-set",
    "augment_changes",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_augment_changes,
    help=f"Replace a value of the preset; several times. fill: {', '.join(FILLS)}; from 0 to "
    + ", ".join(f"{name} {limit}" for name, limit in LIMITS.items())
    + ".",
)
@_setting(
    "threshold_rule",
    None,
    "How the threshold is chosen on validation: youden, youden-stress, sensitivity>=X, or X.",
    metavar="RULE",
    callback=_checked(_rule),
)
@_setting(
    "cache", NearestChoice(CACHES), "auto: in memory where it fits into a quarter of what is free."
)
@click.option(
    "--cache-dir",
    metavar="FOLDER",
    help="Of the file of --cache file.  [default: beside the shards]",
)
@click.option(
    "--data-service",
    metavar="grpc://HOST:PORT",
    callback=_checked(check_address),
    help="Read through a tf.data service.",
)
@click.option(
    "--size",
    type=click.IntRange(1, 4096),
    help="Side in pixels; for a dataset of source files only.",
)
@click.option(
    "--channels",
    type=NearestChoice(["1", "3"]),
    help="3 repeats the grey value; for source files only.",
)
@_setting(
    "seed",
    click.IntRange(0, MAX_SEED),
    "Of the weights, the order of the images and the augmentation.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with an interrupted run; needs no other option than --out.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Write to --out though it is not empty; a run there is replaced.",
)
@click.pass_context
def train(
    ctx: click.Context,
    out: Path,
    resume: bool,
    overwrite: bool,
    data_dir: Path,
    recipe: str | None,
    **given: Any,
) -> None:
    """Train a classifier on a built dataset and measure it on the test split.

    On several machines give each the same command and its own TF_CONFIG; only the first writes.
    """
    if resume and overwrite:
        raise click.UsageError(
            "--resume goes on with a run and --overwrite replaces it; give one of them."
        )
    cluster = read_cluster()
    if chief := cluster is None or cluster.chief:
        check_new_folder(out, overwrite=overwrite, resume=resume)
    if given["channels"] is not None:
        given["channels"] = int(given["channels"])
    if given["dataset"] is not None:
        chosen = TrainSettings(data_dir=str(data_dir.resolve()), **_with_recipe(ctx, recipe, given))
    elif resume:
        said = {key: value for key, value in given.items() if _is_given(ctx, key)}
        chosen = TrainSettings(**RunConfig.read(out).settings | said)
    else:
        raise click.UsageError("Missing option '--dataset'.")
    load_tensorflow()
    from cxr_tfds.metrics.table import as_text
    from cxr_tfds.training.checkpoint import finished_epochs
    from cxr_tfds.training.run import train as run_training

    try:
        with sigterm_as_interrupt():
            measured = run_training(chosen, out, resume=resume)
    except KeyboardInterrupt:
        resuming = f"cxr-train --out {shlex.quote(str(out))} --resume"
        if done := finished_epochs(out):
            click.echo(
                f"\nTo end the run with the epochs it has: {resuming} --epochs {done}", err=True
            )
        raise click.ClickException(
            f"stopped. Go on from the last finished epoch with: {resuming}"
        ) from None
    for split, table in measured.items():
        click.echo(f"{split}:\n{as_text(table)}")
    if chief:
        click.echo(f"run: {out}\nreport: {out / 'report.html'}")


def _with_recipe(ctx: click.Context, name: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """The settings: what was given, then what the recipe says, then the defaults."""
    if name is None:
        return given
    recipe = RECIPES[name]
    said: dict[str, Any] = {"model": recipe.model, **recipe.settings}
    stored = named_settings(DatasetName.parse(given["dataset"]).config)
    if (
        "size" in stored and stored["size"] is None
    ):  # source files, which are fitted when they are read
        said |= {"size": recipe.size, "channels": recipe.channels}
    elif stored.get("size", recipe.size) != recipe.size:
        click.echo(
            f"recipe {name} was made for images of {recipe.size} x {recipe.size}; {given['dataset']} holds them at "
            f"{stored['size']} x {stored['size']}, and so it is trained",
            err=True,
        )
    return given | {key: value for key, value in said.items() if not _is_given(ctx, key)}


def _is_given(ctx: click.Context, key: str) -> bool:
    return ctx.get_parameter_source(key) is not ParameterSource.DEFAULT


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM, with which schedulers end a job, ends it as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
