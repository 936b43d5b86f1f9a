"""Models with settings of their own, by name; loads no TensorFlow.

Those of `xray-cnn5`, `covid-cnn4` and `pneumonia-cnn1` are what their articles state, the others are ours. What a
recipe leaves out has the default of `cxr_tfds.training.settings.TrainSettings`. Some things are as in every run of
ours, whatever an article did: the best epoch is the one with the best validation AUC, validation is cut by patient,
and the threshold is chosen there, where the articles took 0.5.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from cxr_tfds.models import MODELS


class Recipe(NamedTuple):
    """A model with the images it was made for and the settings it is trained with.

    Attributes:
      model: a name of `cxr_tfds.models.MODELS`.
      size: side of the images, pixels.
      channels: of the images.
      settings: fields of `TrainSettings`.
      reported: what its authors found, and on which data; empty for ours.
    """

    model: str
    size: int
    channels: int
    settings: dict[str, Any]
    reported: str


def _of(model: str, reported: str, **settings: Any) -> Recipe:
    """The recipe of a model of the registry, for the images it was made for."""
    size, _, channels = MODELS[model].shape
    return Recipe(model, size, channels, settings, reported)


# Keras's Adam as it comes, and what ImageDataGenerator(shear_range=0.2, zoom_range=0.2, horizontal_flip=True)
# draws: what the articles had in common.
_ADAM: dict[str, Any] = {
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "schedule": "constant",
    "augment": "classic",
}

RECIPES: dict[str, Recipe] = {
    "edge": _of("edge", ""),
    "xray-cnn5": _of(
        "xray-cnn5",
        "accuracy 0.9119 on the test split of pcbreviglieri/pneumonia-xray-images",
        **_ADAM | {"schedule": "plateau"},  # factor 0.3 after 2 epochs, not below 1e-6
        batch_size=16,
        epochs=25,
        early_stopping=3,
        class_weight="balanced",
    ),
    "covid-cnn4": _of(
        "covid-cnn4",
        "accuracy 0.964 on its training data, 0.967 on validation; COVID-19 against normal",
        **_ADAM,
        batch_size=32,
        epochs=10,
        steps_per_epoch=8,
    ),
    "pneumonia-cnn1": _of("pneumonia-cnn1", "accuracy 0.897", **_ADAM, batch_size=32, epochs=10),
    # Neither of the two below was published with its training. Chosen: the articles' augmentation, enough
    # epochs to end by early stopping, and for AlexNet, which has no normalization, a lower rate.
    "ct-cnn3": _of("ct-cnn3", "none known", **_ADAM, batch_size=32, epochs=25, early_stopping=5),
    "alexnet-gray": _of(
        "alexnet-gray",
        "none known",
        **_ADAM | {"learning_rate": 1e-4},
        batch_size=32,
        epochs=15,
        early_stopping=5,
    ),
}
