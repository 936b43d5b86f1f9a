"""Configs of run folders for tests that train nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.training.settings import TrainSettings


def config_of(dataset: BuiltDataset, **settings: Any) -> RunConfig:
    """Returns the config of a finished run on a dataset of two classes."""
    name = dataset.name.partition(":")[0]
    values = TrainSettings(dataset=name, data_dir=str(dataset.data_dir), **settings)
    return RunConfig(
        settings=dataclasses.asdict(values),
        dataset={"name": dataset.name, "fingerprint": dataset.fingerprint},
        labels=dataset.labels,
        shape=dataset.shape,
        fit=dataset.fit,
        precision="float32",
        environment={},
        threshold=0.5,
        grey_levels=dataset.grey_levels,
    )
