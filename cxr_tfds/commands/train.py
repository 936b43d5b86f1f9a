"""`cxr-train`: trains a model on a built dataset and writes a run folder."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cxr_tfds.augmentation.presets import LIMITS, AugmentSettings
from cxr_tfds.commands import options
from cxr_tfds.commands.base import Command, Interrupted, NearestChoice
from cxr_tfds.deadline import sigterm_as_interrupt
from cxr_tfds.errors import InputError
from cxr_tfds.files import check_new_folder
from cxr_tfds.locks import lock_folder
from cxr_tfds.models import list_models
from cxr_tfds.native import load_tensorflow
from cxr_tfds.reading.names import DatasetName, default_data_dir, named_settings
from cxr_tfds.run_folder import RunConfig, check_unfinished
from cxr_tfds.run_profile import format_profile, read_profile
from cxr_tfds.text import did_you_mean
from cxr_tfds.training.cluster import is_chief
from cxr_tfds.training.data import open_training_data
from cxr_tfds.training.duration import CHECKPOINT_EVERY, parse_duration
from cxr_tfds.training.profile import Profile
from cxr_tfds.training.recipes import RECIPES
from cxr_tfds.training.setting import Setting, value_type
from cxr_tfds.training.settings import TrainSettings


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is not ParameterSource.DEFAULT


def _parse_dataset(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    return str(options.parse_dataset(ctx, param, value))


def _parse_changes(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, float | str]:
    """Returns the values of --augment-set by name."""
    changes: dict[str, float | str] = {}
    try:
        for text in values:
            name, equals, value = text.partition("=")
            if not equals:
                raise InputError("expected NAME=VALUE, such as rotation_deg=5.")
            if name not in ("fill", *LIMITS):
                raise InputError(did_you_mean(name, ["fill", *LIMITS]))
            try:
                changes[name] = value if name == "fill" else float(value)
            except ValueError:
                raise InputError(f"expected a number from 0 to {LIMITS[name]}.") from None
            AugmentSettings(**{name: changes[name]})  # type: ignore[arg-type]
    except InputError as err:
        raise click.BadParameter(f"{text!r}: {err}", ctx, param) from None
    return changes


def _check_text(check: Callable[[str], object]) -> Callable:
    def callback(ctx: click.Context, param: click.Parameter, value: str) -> str:
        if _is_given(ctx, param.name or ""):
            try:
                check(value)
            except InputError as err:
                raise click.BadParameter(str(err), ctx, param) from None
        return value

    return callback


# What the options below need beyond the description of their setting.
_MORE: dict[str, dict[str, Any]] = {
    "dataset": {"shell_complete": options.complete_built, "callback": _parse_dataset},
    # Eager, because the known datasets are looked up there.
    "data_dir": {
        "type": click.Path(file_okay=False, resolve_path=True),
        "default": default_data_dir,
        "is_eager": True,
    },
    "augment_changes": {"multiple": True, "callback": _parse_changes},
}


def _setting_option(field: dataclasses.Field[Any]) -> Callable:
    """Returns the option that sets a field of `TrainSettings`."""
    setting: Setting = field.metadata["setting"]
    options: dict[str, Any] = {"help": setting.help, "metavar": setting.metavar}
    options["show_default"] = setting.unset or True
    if field.default is not dataclasses.MISSING:
        options["default"] = field.default
    if value_type(field) == "bool":
        options |= {"is_flag": True, "show_default": False}
    elif setting.choices:
        options["type"] = NearestChoice([str(choice) for choice in setting.choices])
    elif setting.interval is not None:
        low, high, open_low, open_high = setting.interval
        number: Any = click.IntRange if value_type(field) == "int" else click.FloatRange
        options["type"] = number(low, high, min_open=open_low, max_open=open_high)
    if setting.check is not None:
        options["callback"] = _check_text(setting.check)
    names = [f"--{setting.option or field.name.replace('_', '-')}"]
    if field.name == "model":
        names.append("-m")
    return click.option(*names, field.name, **options | _MORE.get(field.name, {}))


def _setting_options(command: Callable) -> Callable:
    for field in reversed(dataclasses.fields(TrainSettings)):
        command = _setting_option(field)(command)
    return command


_GROUPS = {
    "Run": (
        "out", "recipe", "config", "resume", "checkpoint_every", "overwrite", "profile",
        "anonymous",
    ),
    "Data": (
        "dataset", "data_dir", "target", "uncertain", "unknown", "size", "channels", "verify",
        "trust",
    ),
    "Model": ("model", "list_models", "weights", "freeze_epochs", "freeze", "precision"),
    "Training": (
        "epochs", "steps_per_epoch", "early_stopping", "batch_size", "optimizer", "learning_rate",
        "schedule", "warm_up", "weight_decay", "clip_norm", "class_weight", "label_smoothing",
        "average", "seed",
    ),
    "Augmentation": ("augment", "augment_changes"),
    "Decision": ("threshold_rule",),
    "Reading": ("cache", "cache_dir", "data_service"),
}  # fmt: skip


def _print_models(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        click.echo(list_models())
        ctx.exit()


@click.command(
    cls=Command,
    example="cxr-train --dataset xray_folder/224 --data-dir data -o runs/first",
    groups=_GROUPS,
)
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Run folder to write.",
)
@click.option(
    "--recipe",
    type=NearestChoice(list(RECIPES)),
    help="Train a model with its own settings, which the page Training of the documentation "
    f"describes: {', '.join(RECIPES)}. Options on the command line override them.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Train with the settings in the config.json of an earlier run. Options on the command "
    "line override them.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted run; needs only --out.")
@click.option(
    "--checkpoint-every",
    metavar="DURATION",
    default=CHECKPOINT_EVERY,
    show_default=True,
    callback=_check_text(parse_duration),
    help="Time between two checkpoints within an epoch, such as 60s, 5m or 1h. The end of an epoch "
    "is a checkpoint in any case. An interrupted run continues from the last one.",
)
@click.option("--overwrite", is_flag=True, help="Write to --out even if it is not empty.")
@click.option(
    "--profile",
    is_flag=True,
    help="Measure where the time goes. Prints the time of each stage and the bottleneck, writes "
    "profile.json, and adds a picture to the report.",
)
@click.option(
    "--list-models",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_models,
    help="Print the models with their sizes and exit.",
)
@options.verify
@options.trust_dataset
@_setting_options
@options.version
@click.pass_context
def train(
    ctx: click.Context,
    out: Path,
    resume: bool,
    checkpoint_every: str,
    overwrite: bool,
    profile: bool,
    verify: bool,
    trust: Path | None,
    **_: Any,
) -> None:
    """Train a classifier on a built dataset and measure it on the test split.

    To train on several machines, start the same command on each with its own TF_CONFIG. Only the
    first machine writes files.
    """
    measured = Profile(wanted=profile)
    for first, second in (("resume", "overwrite"), ("recipe", "config")):
        if ctx.params[first] and ctx.params[second]:
            raise click.UsageError(f"--{first} and --{second} exclude each other. Give only one.")
    # What the user may have to correct, before TensorFlow takes seconds to load.
    if is_chief():
        if resume:
            check_unfinished(out)
        ctx.with_resource(lock_folder(out))
        check_new_folder(out, overwrite=overwrite, resume=resume)
    settings = _choose_settings(ctx)
    open_training_data(settings)
    load_tensorflow()
    from cxr_tfds.metrics.table import format_metrics
    from cxr_tfds.training.checkpoint import finished_epochs
    from cxr_tfds.training.run import run_training

    command = f"cxr-train --out {shlex.quote(str(out))} --resume"
    interrupted = f"Interrupted. Continue from the last checkpoint with: {command}"
    try:
        with sigterm_as_interrupt(interrupted):
            metrics = run_training(
                settings,
                out,
                resume=resume,
                verify=verify,
                trust=trust,
                checkpoint_every=checkpoint_every,
                profile=measured,
            )
    except KeyboardInterrupt:
        if epochs := finished_epochs(out):
            click.echo(
                f"\nTo end the run with its finished epochs: {command} --epochs {epochs}", err=True
            )
        raise Interrupted(interrupted) from None
    for split, table in metrics.items():
        click.echo(f"{split}:\n{format_metrics(table)}")
    if is_chief():
        if table := read_profile(out) if profile else None:
            click.echo(format_profile(table))
        click.echo(f"run: {out}\nreport: {out / 'report.html'}")


def _choose_settings(ctx: click.Context) -> TrainSettings:
    """Returns the settings of the command line on top of the settings of a recipe, file or run."""
    values = ctx.params
    names = [field.name for field in dataclasses.fields(TrainSettings)]
    given = {name: values[name] for name in names if _is_given(ctx, name)}
    if "channels" in given:
        given["channels"] = int(given["channels"])
    base = {"data_dir": values["data_dir"]}
    if values["config"] is not None:
        base |= RunConfig.read_file(values["config"]).settings
    elif values["resume"] and values["dataset"] is None:
        base |= RunConfig.read(values["out"]).settings
    elif values["dataset"] is None:
        raise click.UsageError("Missing option '--dataset'.")
    if values["recipe"] is not None:
        base |= _recipe_settings(values["recipe"], given.get("dataset") or base["dataset"])
    return TrainSettings.from_dict(base | given)


def _recipe_settings(name: str, dataset: str) -> dict[str, Any]:
    recipe = RECIPES[name]
    settings: dict[str, Any] = {"model": recipe.model, **recipe.settings}
    stored = named_settings(DatasetName.parse(dataset).config)
    size = stored.get("size", recipe.size)
    if size is None:  # source files, which are fitted when they are read
        settings |= {"size": recipe.size, "channels": recipe.channels}
    elif size != recipe.size:
        click.echo(
            f"Recipe {name} was made for images of {recipe.size} x {recipe.size} pixels; {dataset} "
            f"has {size} x {size} and is used unchanged.",
            err=True,
        )
    return settings
