"""Recipes: models with the settings they are trained with, by name. Loads no TensorFlow.

The recipes of `xray-cnn5`, `covid-cnn4` and `pneumonia-cnn1` state what was published. Some things
are the same in every run, whatever was published: the best epoch is the one with the highest
validation AUC, validation is cut by patient, and the threshold is chosen there, not fixed at 0.5.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from cxr_tfds.models import MODELS


class Recipe(NamedTuple):
    """A model, the images it was made for, and its training settings."""

    model: str
    size: int  # side of the images in pixels
    channels: int
    settings: dict[str, Any]  # fields of `TrainSettings`; all others keep their defaults
    reported: str  # the published result and its data; empty for models of this project


def _recipe(model: str, reported: str, **settings: Any) -> Recipe:
    size, _, channels = MODELS[model].shape
    return Recipe(model, size, channels, settings, reported)


# The publications share Keras's default Adam and the augmentation of
# ImageDataGenerator(shear_range=0.2, zoom_range=0.2, horizontal_flip=True).
_ADAM: dict[str, Any] = {
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "schedule": "constant",
    "augment": "classic",
    "batch_size": 32,
}

RECIPES: dict[str, Recipe] = {
    "edge": _recipe("edge", ""),
    "xray-cnn5": _recipe(
        "xray-cnn5",
        "accuracy 0.9119 on the test split of pcbreviglieri/pneumonia-xray-images",
        **_ADAM | {"schedule": "plateau", "batch_size": 16},
        epochs=25,
        early_stopping=3,
        class_weight="balanced",
    ),
    "covid-cnn4": _recipe(
        "covid-cnn4",
        "accuracy 0.964 on its training data, 0.967 on validation; COVID-19 against normal",
        **_ADAM,
        epochs=10,
        steps_per_epoch=8,
    ),
    "pneumonia-cnn1": _recipe("pneumonia-cnn1", "accuracy 0.897", **_ADAM, epochs=10),
    # The two below were published without their training. The augmentation is the common one,
    # the epochs are enough for early stopping, and AlexNet has a lower rate because it has no
    # normalization layers.
    "ct-cnn3": _recipe("ct-cnn3", "none known", **_ADAM, epochs=25, early_stopping=5),
    "alexnet-gray": _recipe(
        "alexnet-gray",
        "none known",
        **_ADAM | {"learning_rate": 1e-4},
        epochs=15,
        early_stopping=5,
    ),
}
