"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from cxr_tfds import __version__
from cxr_tfds.commands.base import NearestChoice
from cxr_tfds.commands.settings import sets
from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import SPLITS
from cxr_tfds.reading.names import (
    DatasetName,
    buildable_datasets,
    built_configs,
    default_data_dir,
    known_datasets,
)
from cxr_tfds.text import did_you_mean

__all__ = ["sets"]


def complete_dataset(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Completes the names of datasets that a builder reads, for the shell."""
    return [CompletionItem(name) for name in buildable_datasets() if name.startswith(incomplete)]


def check_dataset(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuses the name of a dataset that no installed builder has."""
    if value is not None and value not in (known := list(buildable_datasets())):
        raise click.BadParameter(did_you_mean(value, known), ctx, param)
    return value


def complete_built(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Completes the names of built datasets in --data-dir, for the shell."""
    names = built_configs(Path(ctx.params.get("data_dir") or default_data_dir()))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def parse_dataset(ctx: click.Context, param: click.Parameter, value: str) -> DatasetName:
    """Returns the name of a dataset that can be built or exists in --data-dir."""
    try:
        name = DatasetName.parse(value)
    except InputError as err:
        raise click.BadParameter(str(err), ctx, param) from None
    if name.dataset not in (known := known_datasets(Path(ctx.params["data_dir"]))):
        raise click.BadParameter(did_you_mean(name.dataset, known), ctx, param)
    return name


data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    show_default="the folder used for training",
    help="Folder that contains the built dataset (the --data_dir of `tfds build`).",
)
built_dataset = click.argument("dataset", callback=parse_dataset, shell_complete=complete_built)
datasets_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=default_data_dir,
    is_eager=True,  # known datasets are looked up there
    help="Folder that contains the built dataset (the --data_dir of `tfds build`).",
)
dataset = click.option(
    "--dataset",
    callback=check_dataset,
    shell_complete=complete_dataset,
    show_default="recognized by the layout of SOURCE",
    help="Read SOURCE as this dataset.",
)
config = click.option(
    "--config",
    metavar="JSON",
    default="{}",
    show_default=False,
    help="Settings, as for `tfds build --config`. Without a name, the settings give one.",
)
run = click.argument("run", type=click.Path(path_type=Path, file_okay=False))
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
split = click.option(
    "--split",
    type=NearestChoice(SPLITS),
    default="test",
    show_default=True,
    help="Split of the dataset to measure.",
)

verify = click.option(
    "--verify",
    is_flag=True,
    help="First read every record of the dataset and compare it with the fingerprint of the build.",
)
trust_dataset = click.option(
    "--trust",
    metavar="PUBLIC_KEY",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Refuse the dataset unless it was signed with this Ed25519 key (cxr-data sign) and is "
    "unchanged. Includes --verify.",
)
threshold_rule = click.option(
    "--threshold-rule",
    metavar="RULE",
    show_default="the threshold of the run",
    help="Choose the threshold again on the validation split, without training: `youden`, "
    "`youden-stress`, `sensitivity>=0.95` or a probability such as 0.5.",
)


def version(command: Callable) -> Callable:
    """Adds --version, which prints the name of the command."""
    return click.version_option(__version__)(command)
