"""The one or two phases of a run, and which layers are trained in them.

A model that starts from learned weights may first train its head alone: a head of random numbers would
otherwise send large gradients through layers that are good already
(https://keras.io/guides/transfer_learning/).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.text import did_you_mean
from cxr_tfds.training.settings import TrainSettings

# Of the rate in the second phase (https://www.tensorflow.org/tutorials/images/transfer_learning).
_FINE_TUNING = 0.1


class Phase(NamedTuple):
    """Epochs with an optimizer of their own; `head_only`: nothing but the last layer is trained."""

    first_epoch: int
    epochs: int
    learning_rate: float  # peak
    head_only: bool = False


def phase_of(settings: TrainSettings, epoch: int) -> Phase:
    """The phase that `epoch`, from 0, belongs to."""
    head = settings.freeze_epochs
    if epoch < head:
        return Phase(0, head, settings.learning_rate, head_only=True)
    rate = settings.learning_rate * (_FINE_TUNING if head else 1)
    return Phase(head, settings.epochs - head, rate)


def train_layers(model: Any, phase: Phase, freeze: str | None) -> None:
    """Marks the layers of `model` that `phase` trains. Batch norm that is not trained keeps its statistics.

    Raises:
      InputError: there is no layer `freeze`, or none is left to train.
    """
    layers = list(leaves(model))
    names = [layer.name for layer in layers]
    if freeze is not None and freeze not in names:
        raise InputError(f"--freeze: {model.name} has no such layer. {did_you_mean(freeze, names)}")
    kept = 0 if freeze is None else names.index(freeze) + 1
    if phase.head_only:
        kept = max(number for number, layer in enumerate(layers) if layer.weights)
    model.trainable = True
    for number, layer in enumerate(layers):
        layer.trainable = number >= kept
    if not model.trainable_weights:
        raise InputError(f"--freeze {freeze} leaves nothing of {model.name} to train.")


def leaves(model: Any) -> Iterator[Any]:
    """The layers of a model, those of a model inside it in its place, in the order they are computed."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from leaves(layer)
        else:
            yield layer
