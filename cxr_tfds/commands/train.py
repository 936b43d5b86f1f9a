"""`cxr-train`: a built dataset to a run folder."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_tfds.cli import Command, NearestChoice, check_new_folder, load_tensorflow, unknown
from cxr_tfds.datasets import DatasetName, default_data_dir, known_datasets
from cxr_tfds.models import MODELS
from cxr_tfds.presets import LIMITS, PRESETS, AugmentSettings
from cxr_tfds.settings import CACHES, MAX_SEED, PRECISIONS, TrainSettings

_DEFAULTS = TrainSettings(dataset="", data_dir="")


def _known_dataset(ctx: click.Context, param: click.Parameter, value: str) -> str:
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
        name, _, value = text.partition("=")
        if name not in ("fill", *LIMITS):
            raise click.BadParameter(unknown(name, ["fill", *LIMITS]), ctx, param)
        try:
            changes[name] = value if name == "fill" else float(value)
            AugmentSettings(**{name: changes[name]})  # type: ignore[arg-type]
        except ValueError as err:
            raise click.BadParameter(f"{text!r}: {err}", ctx, param) from None
    return changes


@click.command(cls=Command)
@click.option("--dataset", required=True, callback=_known_dataset, help="DATASET/CONFIG, as `tfds build` built it.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=default_data_dir,
    is_eager=True,  # the known datasets are looked up there
    show_default="$TFDS_DATA_DIR or ~/tensorflow_datasets",
    help="Folder given to `tfds build --data_dir`.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Run folder to write.")
@click.option("--model", type=NearestChoice(list(MODELS)), default=_DEFAULTS.model, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), default=_DEFAULTS.epochs, show_default=True)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=_DEFAULTS.batch_size,
    show_default=True,
    help="Radiographs per step.",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=_DEFAULTS.learning_rate,
    show_default=True,
    help="Peak, after a linear warm-up and before a cosine decay.",
)
@click.option(
    "--weight-decay",
    type=click.FloatRange(0, 1, max_open=True),
    default=_DEFAULTS.weight_decay,
    show_default=True,
)
@click.option(
    "--precision",
    type=NearestChoice(PRECISIONS),
    default=_DEFAULTS.precision,
    show_default=True,
    help="auto: mixed_float16 with a GPU, float32 without.",
)
@click.option("--augment", type=NearestChoice(list(PRESETS)), default=_DEFAULTS.augment, show_default=True)
@click.option(
    "--augment-set",
    "augment_changes",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_augment_changes,
    help=f"Replace a value of the preset; several times. Names: fill, {', '.join(LIMITS)}.",
)
@click.option(
    "--cache",
    type=NearestChoice(CACHES),
    default=_DEFAULTS.cache,
    show_default=True,
    help="auto: in memory where it fits into a quarter of what is free.",
)
@click.option(
    "--cache-dir", metavar="FOLDER", help="Where the file of --cache file goes.  [default: beside the shards]"
)
@click.option("--data-service", metavar="grpc://HOST:PORT", help="Read through a tf.data service.")
@click.option(
    "--size",
    type=click.IntRange(1, 4096),
    help="Side the images are fitted to, pixels; for a dataset of source files (config original) only.",
)
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=_DEFAULTS.seed, show_default=True)
@click.option("--resume", is_flag=True, help="Go on from the last finished epoch of an interrupted run.")
@click.option("--overwrite", is_flag=True, help="Replace the run that stands in --out.")
def train(out: Path, resume: bool, overwrite: bool, data_dir: Path, **settings: object) -> None:
    """Train a classifier on a built dataset and measure it on the test split."""
    if resume and overwrite:
        raise click.UsageError("--resume goes on with a run and --overwrite replaces it; give one of them.")
    check_new_folder(out, overwrite=overwrite, resume=resume)
    chosen = TrainSettings(data_dir=str(data_dir.resolve()), **settings)  # type: ignore[arg-type]
    load_tensorflow()
    from cxr_tfds.figures import as_text
    from cxr_tfds.training import train as run_training

    measured = run_training(chosen, out, resume=resume)
    for split, table in measured.items():
        click.echo(f"{split}:\n{as_text(table)}")
    click.echo(f"run: {out}\nreport: {out / 'report.html'}")
