"""The dataset that a run learns from. Importing the module does not load TensorFlow."""

from __future__ import annotations

from cxr_tfds.errors import InputError
from cxr_tfds.models import check_shape, check_weights
from cxr_tfds.reading.datasets import BuiltDataset, open_dataset
from cxr_tfds.task import Task
from cxr_tfds.training.settings import DEFAULT_RULE, TrainSettings


def open_training_data(settings: TrainSettings) -> BuiltDataset:
    """Opens the dataset of a run and checks that the model can learn from it."""
    dataset = (
        open_dataset(settings.dataset, settings.data_dir)
        .targeted(settings.target)
        .labelled(uncertain=settings.uncertain, unknown=settings.unknown)
    )
    if settings.size is not None or settings.channels is not None:
        dataset = dataset.fitted(
            settings.size or dataset.shape[0], channels=settings.channels or dataset.shape[2]
        )
    if dataset.task is Task.MULTICLASS and settings.threshold_rule != DEFAULT_RULE:
        raise InputError(
            f"--threshold-rule {settings.threshold_rule} needs two classes, but {dataset.name} has "
            f"{len(dataset.labels)} ({', '.join(dataset.labels)}) and predicts the most probable. "
            "Omit the option."
        )
    check_shape(settings.model, dataset.shape)
    check_weights(settings.model, settings.weights)
    return dataset
