"""`cxr-evaluate`: measures a run on a split."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_tfds.commands import options
from cxr_tfds.commands.base import Command
from cxr_tfds.locks import lock_folder
from cxr_tfds.native import load_tensorflow
from cxr_tfds.reading.run_data import open_run_dataset
from cxr_tfds.run_folder import check_finished
from cxr_tfds.text import to_json
from cxr_tfds.training.settings import read_run_config
from cxr_tfds.training.threshold_rule import check_threshold_rule


@click.command(cls=Command, example="cxr-evaluate runs/first --stress")
@options.run
@options.split
@options.data_dir
@click.option(
    "--stress",
    is_flag=True,
    help="Measure also under JPEG compression, blur, noise, exposure, contrast, shift, rotation "
    "and crop, each at three strengths.",
)
@click.option(
    "--anonymous",
    is_flag=True,
    help="Leave the names of images out of the report, so that it can be passed on.",
)
@options.threshold_rule
@options.as_json
@options.version
def evaluate(
    run: Path,
    split: str,
    data_dir: Path | None,
    stress: bool,
    anonymous: bool,
    threshold_rule: str | None,
    as_json: bool,
) -> None:
    """Measure the model of the run folder RUN on a split, at the threshold of the run.

    Updates metrics.json and, with --stress, stress.json. If the report is about this split, also
    updates report.html, MODEL_CARD.md and pictures/. Changes nothing else in RUN. With
    --threshold-rule, only prints: RUN keeps its threshold.
    """
    # What the user may have to correct, before TensorFlow takes seconds to load.
    config = read_run_config(run)
    check_finished(run)
    if threshold_rule is not None:
        check_threshold_rule(config, threshold_rule)
    else:
        click.get_current_context().with_resource(lock_folder(run))
    open_run_dataset(config, data_dir).check_split(split)
    load_tensorflow()
    from cxr_tfds.evaluation.stress import format_stress_table
    from cxr_tfds.metrics.table import format_metrics
    from cxr_tfds.training.finish import evaluate as evaluate_run

    metrics = evaluate_run(
        run,
        split,
        data_dir=data_dir,
        stress=stress,
        anonymous=anonymous,
        threshold_rule=threshold_rule,
    )
    if as_json:
        click.echo(to_json(metrics, indent=2))
        return
    click.echo(f"{split}:\n{format_metrics(metrics)}")
    if stress:
        click.echo(f"\nunder stress:\n{format_stress_table(metrics['stress'])}")
