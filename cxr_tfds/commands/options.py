"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_tfds.commands.base import NearestChoice
from cxr_tfds.reading.datasets import SPLITS

data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder given to `tfds build --data_dir`.  [default: where the run found it]",
)
run = click.argument("run", type=click.Path(path_type=Path, file_okay=False))
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
split = click.option(
    "--split", type=NearestChoice(SPLITS), default="test", show_default=True, help="Which images."
)
