"""`cxr-train`: a built dataset to a run folder."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import click

from cxr_tfds.cli import Command, NearestChoice, check_new_folder, load_tensorflow, unknown
from cxr_tfds.datasets import DatasetName, default_data_dir, known_datasets
from cxr_tfds.models import MODELS
from cxr_tfds.presets import FILLS, LIMITS, PRESETS, AugmentSettings
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.settings import CACHES, MAX_SEED, PRECISIONS, TrainSettings

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
        raise click.BadParameter(unknown(name.dataset, known), ctx, param)
    return str(name)


def _augment_changes(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, float | str]:
    changes: dict[str, float | str] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r}; expected NAME=VALUE such as rotation_deg=5.", ctx, param)
        if name not in ("fill", *LIMITS):
            raise click.BadParameter(unknown(name, ["fill", *LIMITS]), ctx, param)
        try:
            changes[name] = value if name == "fill" else float(value)
            AugmentSettings(**{name: changes[name]})  # type: ignore[arg-type]
        except ValueError as err:
            raise click.BadParameter(f"{text!r}: {err}", ctx, param) from None
    return changes


def _setting(name: str, kind: click.ParamType, text: str) -> Callable:
    """An option for a field of `TrainSettings`, with its default."""
    option = f"--{name.replace('_', '-')}"
    return click.option(option, type=kind, default=getattr(_DEFAULTS, name), show_default=True, help=text)


@click.command(cls=Command)
@click.option("--dataset", callback=_known_dataset, help="DATASET/CONFIG, such as chest_xray_pneumonia/224. Required.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=default_data_dir,
    is_eager=True,  # the known datasets are looked up there
    show_default="$TFDS_DATA_DIR or ~/tensorflow_datasets",
    help="Folder given to `tfds build --data_dir`.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Run folder to write.")
@_setting("model", NearestChoice(list(MODELS)), "Which network.")
@_setting("epochs", click.IntRange(min=1), "Passes over the training split.")
@_setting("batch_size", click.IntRange(min=1), "Radiographs per step.")
@_setting(
    "learning_rate",
    click.FloatRange(0, 1, min_open=True, max_open=True),
    "Peak, after a linear warm-up and before a cosine decay.",
)
@_setting("weight_decay", click.FloatRange(0, 1, max_open=True), "Decoupled, of AdamW.")
@_setting("precision", NearestChoice(PRECISIONS), "auto: mixed_float16 with a GPU, float32 without.")
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
@_setting("cache", NearestChoice(CACHES), "auto: in memory where it fits into a quarter of what is free.")
@click.option("--cache-dir", metavar="FOLDER", help="Of the file of --cache file.  [default: beside the shards]")
@click.option("--data-service", metavar="grpc://HOST:PORT", help="Read through a tf.data service.")
@click.option("--size", type=click.IntRange(1, 4096), help="Side in pixels; for a dataset of source files only.")
@_setting("seed", click.IntRange(0, MAX_SEED), "Of the weights, the order of the images and the augmentation.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run; needs no other option than --out.")
@click.option("--overwrite", is_flag=True, help="Write to --out though it is not empty; a run there is replaced.")
def train(out: Path, resume: bool, overwrite: bool, data_dir: Path, **settings: object) -> None:
    """Train a classifier on a built dataset and measure it on the test split."""
    if resume and overwrite:
        raise click.UsageError("--resume goes on with a run and --overwrite replaces it; give one of them.")
    check_new_folder(out, overwrite=overwrite, resume=resume)
    if settings["dataset"] is not None:
        chosen = TrainSettings(data_dir=str(data_dir.resolve()), **settings)  # type: ignore[arg-type]
    elif resume:
        chosen = TrainSettings(**RunConfig.read(out).settings)
    else:
        raise click.UsageError("Missing option '--dataset'.")
    load_tensorflow()
    from cxr_tfds.figures import as_text
    from cxr_tfds.training import train as run_training

    try:
        measured = run_training(chosen, out, resume=resume)
    except KeyboardInterrupt:
        raise click.ClickException(
            f"stopped. Go on from the last finished epoch with: cxr-train --out {shlex.quote(str(out))} --resume"
        ) from None
    for split, table in measured.items():
        click.echo(f"{split}:\n{as_text(table)}")
    click.echo(f"run: {out}\nreport: {out / 'report.html'}")
