"""The end of a run: what the trained model is worth, and the files that say so."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import keras

from cxr_tfds import run_folder
from cxr_tfds.datasets import BuiltDataset
from cxr_tfds.evaluation import choose_threshold, measure, score
from cxr_tfds.report import write_report
from cxr_tfds.run_folder import RunConfig


def finish_run(model: keras.Model, dataset: BuiltDataset, run: Path, config: RunConfig) -> dict[str, Any]:
    """Chooses the threshold on validation, then reads the test split, once; writes all that a finished run has.

    Returns:
      The content of `metrics.json`.
    """
    validation = score(model, dataset, "validation")
    threshold = choose_threshold(validation, config.threshold_rule)
    scores = {"validation": validation}
    if dataset.sizes.get("test"):
        scores["test"] = score(model, dataset, "test")
    measured: dict[str, Any] = {split: measure(of, threshold) for split, of in scores.items()}
    config = dataclasses.replace(config, threshold=threshold)
    config.write(run)
    run_folder.write_json(run / run_folder.METRICS, measured)
    write_report(run, config, measured, scores, model)
    run_folder.save_model(model, run)  # last: a run with a model is a finished run
    shutil.rmtree(run / run_folder.CHECKPOINT)
    return measured
