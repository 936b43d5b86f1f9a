"""The phases of a run, their learning rates and the layers they train."""

import re

import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.models import build_model
from cxr_tfds.training.phases import Phase, iterate_layers, phase_of, set_trainable_layers
from cxr_tfds.training.settings import TrainSettings

HEAD, ALL = Phase(0, 2, 0.01, head_only=True), Phase(2, 8, 0.001)


@pytest.fixture
def model(tiny_model):
    return build_model(tiny_model, (64, 64, 1), 1)


def trainable_layers(model):
    return [layer.name for layer in iterate_layers(model) if layer.trainable_weights]


def test_freeze_epochs_make_two_phases():
    settings = TrainSettings(dataset="a/b", data_dir="c", epochs=10, learning_rate=0.01)
    assert {phase_of(settings, epoch) for epoch in range(10)} == {Phase(0, 10, 0.01)}
    settings = TrainSettings(
        dataset="a/b",
        data_dir="c",
        epochs=10,
        learning_rate=0.01,
        weights="imagenet",
        freeze_epochs=2,
    )
    assert [phase_of(settings, epoch) for epoch in range(4)] == [HEAD, HEAD, ALL, ALL]


@pytest.mark.parametrize(
    ("phase", "freeze", "names"),
    [
        (ALL, None, ["first", "norm", "second", "logits"]),
        (HEAD, None, ["logits"]),
        (HEAD, "first", ["logits"]),
        (ALL, "first", ["norm", "second", "logits"]),
        (ALL, "norm", ["second", "logits"]),
    ],
)
def test_trainable_layers_of_a_phase(model, phase, freeze, names):
    set_trainable_layers(model, HEAD, None)  # the previous phase has no effect
    set_trainable_layers(model, phase, freeze)
    assert trainable_layers(model) == names


def test_layers_of_an_inner_model(model):
    from keras import Input, Model, layers

    pixels = Input((64, 64, 1))
    outer = Model(pixels, layers.Dense(1, name="last")(model(pixels)))
    set_trainable_layers(outer, ALL, "second")
    assert trainable_layers(outer) == ["logits", "last"]


def test_refuses_to_freeze_unknown_or_all_layers(model):
    with pytest.raises(
        InputError,
        match=r"^--freeze: tiny has no layer of this name\. 'frist' is not one of .*mean 'first'\?",
    ):
        set_trainable_layers(model, ALL, "frist")
    with pytest.raises(InputError, match=re.escape("--freeze logits freezes all weights of tiny.")):
        set_trainable_layers(model, ALL, "logits")
