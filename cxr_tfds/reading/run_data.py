"""The dataset of a run. Importing the module does not load TensorFlow."""

from __future__ import annotations

from pathlib import Path

from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import BuiltDataset, open_dataset
from cxr_tfds.reading.fingerprint import earlier_fingerprint
from cxr_tfds.reading.names import DatasetName
from cxr_tfds.run_folder import RunConfig


def is_trained_on(config: RunConfig, dataset: BuiltDataset) -> bool:
    """Returns whether a run was trained on a dataset, as its fingerprint shows.

    A dataset that was built again from the same source has the fingerprint of an earlier version,
    too, which covers the records only.
    """
    trained = config.dataset["fingerprint"]
    if trained == dataset.fingerprint or dataset.recorded is None:
        return trained == dataset.fingerprint
    return trained == earlier_fingerprint(dataset.recorded)


def open_run_dataset(config: RunConfig, data_dir: str | Path | None = None) -> BuiltDataset:
    """Opens the dataset a run was trained on, as the run read it.

    `data_dir` is the folder of the dataset if it was moved. Raises MissingData if the dataset does
    not exist, and InputError if its examples have changed since.
    """
    folder = Path(data_dir or config.settings["data_dir"])
    dataset = open_dataset(DatasetName.parse(config.dataset["name"]), folder)
    if not is_trained_on(config, dataset):
        raise InputError(
            f"{dataset.name} in {folder} has other examples or settings than the run was trained "
            "on. Train again, or use --data-dir to name the folder of the original dataset."
        )
    dataset = dataset.targeted(config.settings.get("target", "label")).labelled(
        uncertain=config.settings.get("uncertain", "ignore"),
        unknown=config.settings.get("unknown", "ignore"),
    )
    if dataset.encoded:
        dataset = dataset.fitted(config.shape[0], channels=config.shape[2], fit=config.fit)
    for name in ("labels", "shape", "fit", "grey_levels"):
        # The fingerprint of an earlier version does not cover them. Early runs have no grey levels.
        found, trained = getattr(dataset, name), getattr(config, name)
        if trained and found != trained:
            raise InputError(
                f"{dataset.name} in {folder} has {name}={found!r}, but the run was trained with "
                f"{trained!r}. Train again, or use --data-dir to name the folder of the original "
                "dataset."
            )
    return dataset
