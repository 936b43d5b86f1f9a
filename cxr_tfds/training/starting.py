"""The config of a run that starts, and the check of one that resumes."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from pathlib import Path

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.run_data import is_trained_on
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.training.checkpoint import finished_epochs
from cxr_tfds.training.settings import TrainSettings, read_run_config

_PACKAGES = ("cxr-tfds", "tensorflow", "keras", "tensorflow-datasets", "numpy", "Pillow")
_NO_EFFECT = ("anonymous", "cache", "cache_dir")  # on the weights


def describe_run(settings: TrainSettings, dataset: BuiltDataset, policy: str) -> RunConfig:
    """Returns the content of `config.json` before the decision is fitted."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    return RunConfig(
        settings=dataclasses.asdict(settings),
        dataset={
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "origin": dataset.origin,
        },
        labels=dataset.labels,
        shape=dataset.shape,
        fit=dataset.fit,
        grey_levels=dataset.grey_levels,
        precision=policy,
        task=dataset.task,
        environment=versions | {name: importlib.metadata.version(name) for name in _PACKAGES},
    )


def check_resumable(run: Path, config: RunConfig, dataset: BuiltDataset) -> None:
    """Raises an InputError unless the unfinished run in a folder has this config and dataset."""
    old = read_run_config(run)
    run_folder.check_unfinished(run)
    before, now = ({**c.settings, "dtype policy": c.precision} for c in (old, config))
    different = [
        name for name, value in now.items() if before.get(name) != value and name not in _NO_EFFECT
    ]
    if different == ["epochs"] and now["epochs"] == finished_epochs(run):
        different = []  # the run ends with the epochs it has
    if different or not is_trained_on(old, dataset):
        what = ", ".join(f"{name} {before.get(name)!r}, now {now[name]!r}" for name in different)
        raise InputError(
            f"{run} was started with different settings: "
            f"{what or 'the dataset now has other examples or settings'}. "
            "Use the same settings, or start again with --overwrite."
        )
