"""Which layers a phase trains, and at which rate."""

import re

import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.models import build_model
from cxr_tfds.training.phases import Phase, leaves, phase_of, train_layers
from cxr_tfds.training.settings import TrainSettings

HEAD, ALL = Phase(0, 2, 0.01, head_only=True), Phase(2, 8, 0.001)


@pytest.fixture
def model(tiny_model):
    return build_model(tiny_model, (64, 64, 1), 2)


def trained(model):
    return [layer.name for layer in leaves(model) if layer.trainable_weights]


def test_one_phase_unless_the_head_is_trained_first():
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
def test_the_layers_of_a_phase(model, phase, freeze, names):
    train_layers(model, HEAD, None)  # whatever was before
    train_layers(model, phase, freeze)
    assert trained(model) == names


def test_a_model_inside_a_model_is_walked_through(model):
    from keras import Input, Model, layers

    pixels = Input((64, 64, 1))
    outer = Model(pixels, layers.Dense(1, name="last")(model(pixels)))
    train_layers(outer, ALL, "second")
    assert trained(outer) == ["logits", "last"]


def test_layers_that_cannot_be_frozen(model):
    with pytest.raises(
        InputError,
        match=r"^--freeze: tiny has no such layer\. 'frist' is not one of .*Did you mean 'first'\?",
    ):
        train_layers(model, ALL, "frist")
    with pytest.raises(
        InputError, match=re.escape("--freeze logits leaves nothing of tiny to train.")
    ):
        train_layers(model, ALL, "logits")
