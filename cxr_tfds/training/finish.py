"""Fits the decision of a trained model, measures the model and writes the result files."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import keras

from cxr_tfds import run_folder
from cxr_tfds.evaluation.conditions import MODERATE
from cxr_tfds.evaluation.scoring import ImageSample, Scores, measure, score_and_sample
from cxr_tfds.evaluation.stress import run_stress_test, within_budget
from cxr_tfds.files import format_json, write_files
from cxr_tfds.locks import lock_folder
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.run_data import open_run_dataset
from cxr_tfds.report.page import RunResults, write_report
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.run_profile import PROFILE, RESULTS, read_profile
from cxr_tfds.text import say
from cxr_tfds.training.decision import fit_decision, with_threshold_rule
from cxr_tfds.training.profile import Profile
from cxr_tfds.training.settings import read_run_config


def finish_run(
    model: keras.Model,
    dataset: BuiltDataset,
    run: Path,
    config: RunConfig,
    profile: Profile | None = None,
) -> dict[str, Any]:
    """Fits temperature and threshold on validation, measures the test split, and writes all files.

    Returns the content of `metrics.json`.
    """
    profile = profile or Profile(wanted=False)
    with profile.stage(RESULTS):
        config, results = _measure(model, dataset, config)
    tables: dict[Path, Any] = {
        run / run_folder.CONFIG: dataclasses.asdict(config),
        run / run_folder.METRICS: results.metrics,
        run / run_folder.STRESS: {results.split: results.stress},
    }
    if profile.wanted:
        results = results._replace(profile=profile.table())
        tables[run / PROFILE] = results.profile
    say("writing the report")
    write_report(run, config, results, tables)
    run_folder.save_model(model, run)  # last: a run folder with a model is a finished run
    shutil.rmtree(run / run_folder.CHECKPOINT)
    return results.metrics


def _measure(
    model: keras.Model, dataset: BuiltDataset, config: RunConfig
) -> tuple[RunConfig, RunResults]:
    """Returns the config with the decision, and the results for the report."""
    scores, sample = score_and_sample(model, dataset, "validation")
    config = fit_decision(model, scores, sample, config)
    split, scores = "validation", scores._replace(temperature=config.temperature)
    metrics = {split: measure(scores, config)}
    if dataset.sizes.get("test"):
        split = "test"
        scores, sample = score_and_sample(model, dataset, split, config.temperature)
        metrics[split] = measure(scores, config)
    # Only moderate strength: severe stress is left to `cxr-evaluate --stress`, which takes three
    # times as long.
    stress = run_stress_test(
        model,
        scores,
        within_budget(model, scores, sample, (MODERATE,)),
        config.threshold,
        (MODERATE,),
        labels=config.labels,
    )
    return config, RunResults(dataset, model, split, scores, sample, metrics, stress)


def evaluate(
    run: str | Path,
    split: str = "test",
    *,
    data_dir: str | Path | None = None,
    stress: bool = False,
    anonymous: bool = False,
    threshold_rule: str | None = None,
) -> dict[str, Any]:
    """Measures a finished run on a split and updates its metrics, and its report for that split.

    Args:
      run: Run folder.
      split: Split of the dataset of the run.
      data_dir: Folder that contains the dataset; the one used for training by default.
      stress: Whether to measure under stress too, at every strength.
      anonymous: Whether the report leaves out the names of images, as with the setting of the run.
      threshold_rule: Measures at the threshold that this rule chooses on validation, and writes
        nothing: the run keeps its threshold. See `cxr_tfds.metrics.thresholds`.

    Returns:
      The metrics of the split; with `stress` also those under stress, as "stress".

    Raises:
      MissingData: The run or its dataset does not exist, or the run is not finished.
      InputError: The dataset has no such split, a file of the run is corrupt or cannot be written,
        or another process writes the run folder.
    """
    run = Path(run)
    RunConfig.read(run)  # a lock would create a missing folder
    with contextlib.nullcontext() if threshold_rule is not None else lock_folder(run):
        return _evaluate(run, split, data_dir, stress, anonymous, threshold_rule)


def _evaluate(
    run: Path,
    split: str,
    data_dir: str | Path | None,
    stress: bool,
    anonymous: bool,
    threshold_rule: str | None,
) -> dict[str, Any]:
    config = read_run_config(run)
    if anonymous:
        config.settings["anonymous"] = True
    for name in (run_folder.METRICS, run_folder.STRESS):
        run_folder.read_metrics(run, name)  # reports a corrupt file before minutes of scoring
    profile = read_profile(run)
    dataset = open_run_dataset(config, data_dir)
    dataset.check_split(split)
    model = run_folder.load_model(run)
    if threshold_rule is not None:
        config = with_threshold_rule(model, dataset, config, threshold_rule)
    scores, sample = score_and_sample(model, dataset, split, config.temperature)
    metrics = measure(scores, config)
    if threshold_rule is not None:
        return {**metrics, "stress": _stress(model, scores, sample, config)} if stress else metrics
    all_metrics = run_folder.read_metrics(run) | {split: metrics}
    all_stress = run_folder.read_metrics(run, run_folder.STRESS)
    tables: dict[Path, Any] = {run / run_folder.METRICS: all_metrics}
    if stress:
        stressed = _stress(model, scores, sample, config)
        all_stress |= {split: stressed}
        tables[run / run_folder.STRESS] = all_stress
    if split == ("test" if dataset.sizes.get("test") else "validation"):
        stress_table = all_stress.get(split)
        results = RunResults(
            dataset, model, split, scores, sample, all_metrics, stress_table, profile
        )
        say("writing the report")
        write_report(run, config, results, tables)
    else:
        write_files({path: format_json(table) for path, table in tables.items()})
    return {**metrics, "stress": stressed} if stress else metrics


def _stress(
    model: keras.Model, scores: Scores, sample: ImageSample, config: RunConfig
) -> dict[str, Any]:
    few = within_budget(model, scores, sample)
    return run_stress_test(model, scores, few, config.threshold, labels=config.labels)
