"""The end of a run: what the trained model is worth, and the files that say so."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from cxr_tfds import run_folder
from cxr_tfds.evaluation.conditions import MODERATE
from cxr_tfds.evaluation.scoring import Kept, Scores, dataset_of, measure, score_and_keep
from cxr_tfds.evaluation.stress import stress, stressed_copies
from cxr_tfds.files import write_json
from cxr_tfds.metrics.temperature import fit_temperature
from cxr_tfds.metrics.thresholds import YOUDEN_STRESS, best_threshold
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.report.page import Measured, write_report
from cxr_tfds.run_folder import RunConfig


def finish_run(
    model: keras.Model, dataset: BuiltDataset, run: Path, config: RunConfig
) -> dict[str, Any]:
    """Fits temperature and threshold on validation, then scores the test split, once; writes all a finished run has.

    Returns:
      The content of `metrics.json`.

    Raises:
      InputError: validation holds one class only.
    """
    validation, kept = score_and_keep(model, dataset, "validation")
    config = calibrated(model, validation, kept, config)
    scores = {"validation": validation._replace(temperature=config.temperature)}
    split = "validation"
    if dataset.sizes.get("test"):
        split = "test"
        scores[split], kept = score_and_keep(model, dataset, split, config.temperature)
    measured: dict[str, Any] = {name: measure(of, config) for name, of in scores.items()}
    # The severest changes are left to `cxr-evaluate --stress`: they would triple the time this takes.
    stressed = stress(model, scores[split], kept, config.threshold, (MODERATE,), say=_say)
    config.write(run)
    write_json(run / run_folder.METRICS, measured)
    write_json(run / run_folder.STRESS, {split: stressed})
    write_report(
        run, config, Measured(dataset, model, split, scores[split], kept, measured, stressed)
    )
    run_folder.save_model(model, run)  # last: a run with a model is a finished run
    shutil.rmtree(run / run_folder.CHECKPOINT)
    return measured


def measure_again(
    run: Path,
    config: RunConfig,
    split: str,
    data_dir: Path | None = None,
    *,
    stressed: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Measures a finished run on a split, writes its figures, and the report anew where it is about this split.

    Args:
      run: the run folder.
      config: what stands in it.
      split: of the run's dataset.
      data_dir: where that stands, if it moved.
      stressed: measure under stress, too, at every strength.
      say: takes a line about how far it is.

    Returns:
      The split's figures, and those under stress where asked for.

    Raises:
      MissingData: the run has no model, or its dataset is not there.
      InputError: the dataset has no such split, or a file of the run is damaged.
    """
    for name in (run_folder.METRICS, run_folder.STRESS):
        run_folder.read_metrics(
            run, name
        )  # a damaged file is told now, not after minutes of scoring
    dataset = dataset_of(config, data_dir)
    dataset.check_split(split)
    model = run_folder.load_model(run)
    scores, kept = score_and_keep(model, dataset, split, config.temperature)
    table = measure(scores, config)
    under = stress(model, scores, kept, config.threshold, say=say) if stressed else None
    tables = _with_split(run, run_folder.METRICS, split, table)
    stresses = _with_split(run, run_folder.STRESS, split, under)
    if split == ("test" if dataset.sizes.get("test") else "validation"):
        write_report(
            run, config, Measured(dataset, model, split, scores, kept, tables, stresses.get(split))
        )
    return table, under


def _with_split(run: Path, name: str, split: str, table: dict[str, Any] | None) -> dict[str, Any]:
    """The tables of a file of the run with that of `split`, which it is given here; None leaves it as it is.

    Read just before it is written: another split may have been measured meanwhile.
    """
    tables = run_folder.read_metrics(run, name)
    if table is not None:
        tables[split] = table
        write_json(run / name, tables)
    return tables


def calibrated(model: keras.Model, validation: Scores, kept: Kept, config: RunConfig) -> RunConfig:
    """The config with the temperature and the threshold that validation asks for.

    Raises:
      InputError: validation holds one class only.
    """
    temperature = fit_temperature(validation.labels, validation.logits)
    config = dataclasses.replace(config, temperature=temperature, threshold=None)
    if validation.logits.ndim > 1:
        return config
    rule = config.settings["threshold_rule"]
    scores = validation._replace(temperature=temperature)
    labels, values = scores.labels, scores.probabilities
    if rule == YOUDEN_STRESS:
        _say("scoring validation under each condition, for the threshold")
        labels, values = stressed_copies(model, scores, kept)
    return dataclasses.replace(config, threshold=best_threshold(labels, values, rule))


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201
