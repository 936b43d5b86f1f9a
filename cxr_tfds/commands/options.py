"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_tfds import __version__
from cxr_tfds.commands.base import NearestChoice
from cxr_tfds.reading.datasets import SPLITS

data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    show_default="the folder used for training",
    help="Folder that contains the built dataset (the --data_dir of `tfds build`).",
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
version = click.version_option(__version__)
