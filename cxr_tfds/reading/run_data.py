"""The dataset of a run. Importing the module does not load TensorFlow."""

from __future__ import annotations

from pathlib import Path

from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import BuiltDataset, open_dataset
from cxr_tfds.reading.names import DatasetName
from cxr_tfds.run_folder import RunConfig


def open_run_dataset(config: RunConfig, data_dir: str | Path | None = None) -> BuiltDataset:
    """Opens the dataset a run was trained on, as the run read it.

    `data_dir` is the folder of the dataset if it was moved. Raises MissingData if the dataset does
    not exist, and InputError if its examples have changed since.
    """
    folder = Path(data_dir or config.settings["data_dir"])
    dataset = open_dataset(DatasetName.parse(config.dataset["name"]), folder)
    if dataset.fingerprint != config.dataset["fingerprint"]:
        raise InputError(
            f"{dataset.name} in {folder} has other examples than the run was trained on. Train "
            "again, or use --data-dir to name the folder of the original dataset."
        )
    dataset = dataset.targeted(config.settings.get("target", "label")).labelled(
        uncertain=config.settings.get("uncertain", "ignore"),
        unknown=config.settings.get("unknown", "ignore"),
    )
    if dataset.encoded:
        return dataset.fitted(config.shape[0], channels=config.shape[2], fit=config.fit)
    return dataset
