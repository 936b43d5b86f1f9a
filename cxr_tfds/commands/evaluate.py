"""`cxr-evaluate`: measures a run on a split."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cxr_tfds.commands import options
from cxr_tfds.commands.base import Command
from cxr_tfds.native import load_tensorflow


@click.command(cls=Command)
@options.run
@options.split
@options.data_dir
@click.option(
    "--stress",
    is_flag=True,
    help="Measure under JPEG loss, blur, noise, exposure, contrast, shift, rotation and crop, too, at three strengths.",
)
@options.as_json
def evaluate(run: Path, split: str, data_dir: Path | None, stress: bool, as_json: bool) -> None:
    """Measure the model of RUN on a split, at the threshold chosen on validation.

    Brings metrics.json up to date; where the report is about this split, report.html, MODEL_CARD.md and pictures/; with
    --stress stress.json. Nothing else in RUN is touched.
    """
    from cxr_tfds.run_folder import RunConfig

    config = RunConfig.read(run)
    load_tensorflow()
    from cxr_tfds.evaluation import stress as under_stress
    from cxr_tfds.metrics.table import format_metrics
    from cxr_tfds.training.finish import measure_again

    table, stressed = measure_again(
        run, config, split, data_dir, stressed=stress, say=lambda line: click.echo(line, err=True)
    )
    if as_json:
        click.echo(json.dumps({**table, "stress": stressed} if stress else table, indent=2))
        return
    click.echo(f"{split}:\n{format_metrics(table)}")
    if stressed is not None:
        click.echo(f"\nunder stress:\n{under_stress.as_text(stressed)}")
