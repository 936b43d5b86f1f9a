"""The one or two phases of a run and the layers that each of them trains.

A model with trained weights may first train only its last layer: the random numbers of a new last
layer would send large gradients through the trained layers
(https://keras.io/guides/transfer_learning/).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.text import did_you_mean
from cxr_tfds.training.settings import TrainSettings

# Learning rate of the second phase relative to the first
# (https://www.tensorflow.org/tutorials/images/transfer_learning).
_FINE_TUNING = 0.1


class Phase(NamedTuple):
    """Consecutive epochs that share one optimizer."""

    first_epoch: int  # from 0
    epochs: int
    learning_rate: float  # peak
    head_only: bool = False  # whether only the last layer is trained


def phase_of(settings: TrainSettings, epoch: int) -> Phase:
    """Returns the phase that contains `epoch`, counted from 0."""
    head = settings.freeze_epochs
    if epoch < head:
        return Phase(0, head, settings.learning_rate, head_only=True)
    rate = settings.learning_rate * (_FINE_TUNING if head else 1)
    return Phase(head, settings.epochs - head, rate)


def set_trainable_layers(model: Any, phase: Phase, freeze: str | None) -> None:
    """Sets `trainable` of each layer of `model`; layers up to `freeze` are frozen in every phase.

    A frozen batch norm keeps its statistics.
    """
    layers = list(iterate_layers(model))
    names = [layer.name for layer in layers]
    if freeze is not None and freeze not in names:
        raise InputError(
            f"--freeze: {model.name} has no layer of this name. {did_you_mean(freeze, names)}"
        )
    frozen = 0 if freeze is None else names.index(freeze) + 1
    if phase.head_only:
        frozen = max(number for number, layer in enumerate(layers) if layer.weights)
    model.trainable = True
    for number, layer in enumerate(layers):
        layer.trainable = number >= frozen
    if not model.trainable_weights:
        raise InputError(
            f"--freeze {freeze} freezes all weights of {model.name}. Give an earlier layer."
        )


def iterate_layers(model: Any) -> Iterator[Any]:
    """Yields the layers of a model in the order of computation, with the layers of inner models."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from iterate_layers(layer)
        else:
            yield layer
