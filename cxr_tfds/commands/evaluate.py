"""`cxr-evaluate`: measures a run on a split."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cxr_tfds.cli import Command, load_tensorflow
from cxr_tfds.commands import options


@click.command(cls=Command)
@options.run
@options.split
@options.data_dir
@options.as_json
def evaluate(run: Path, split: str, data_dir: Path | None, as_json: bool) -> None:
    """Measure the model of RUN on a split, at the threshold chosen on validation."""
    from cxr_tfds.run_folder import METRICS, RunConfig, load_model, read_metrics, write_json

    config = RunConfig.read(run)
    load_tensorflow()
    from cxr_tfds.evaluation import dataset_of, measure, score
    from cxr_tfds.figures import as_text

    dataset = dataset_of(config, data_dir)
    dataset.check_split(split)
    table = measure(score(load_model(run), dataset, split), config.threshold)
    write_json(run / METRICS, {**read_metrics(run), split: table})
    click.echo(json.dumps(table, indent=2) if as_json else f"{split}:\n{as_text(table)}")
