"""Settings of a run: what is allowed and what is said of the rest."""

import dataclasses
import json

import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.settings import TrainSettings

NAMED = {"dataset": "chest_xray_pneumonia/64", "data_dir": "data"}


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("epochs", 0, "epochs=0, batch_size=32; expected at least 1 of each."),
        ("batch_size", 0, "epochs=30, batch_size=0; expected at least 1 of each."),
        ("learning_rate", 0.0, "expected 0 < learning rate < 1"),
        ("learning_rate", 1.0, "expected 0 < learning rate < 1"),
        ("learning_rate", float("nan"), "expected 0 < learning rate < 1"),
        ("weight_decay", -0.1, "0 <= weight decay < 1"),
        ("weight_decay", 1.0, "0 <= weight decay < 1"),
        ("precision", "float16", "precision='float16'; expected one of auto, float32, mixed_float16, mixed_bfloat16."),
        ("cache", "disk", "cache='disk'; expected one of auto, ram, file, none."),
        ("augment", "mild", "augment='mild'; expected one of none, classic, default, strong."),
        ("model", "resnet", "model='resnet'; expected one of edge."),
        ("seed", -1, "seed=-1; expected 0 to 2147483647."),
        ("seed", 2**31, "seed=2147483648; expected 0 to 2147483647."),
    ],
)
def test_a_value_out_of_its_range_is_named(setting, value, message):
    with pytest.raises(InputError) as caught:
        TrainSettings(**{**NAMED, setting: value})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("epochs", 1), ("batch_size", 1), ("weight_decay", 0.0), ("seed", 2**31 - 1), ("learning_rate", 1e-9)],
)
def test_the_ends_of_a_range_are_allowed(setting, value):
    assert getattr(TrainSettings(**{**NAMED, setting: value}), setting) == value


def test_settings_survive_json():
    settings = TrainSettings(**NAMED, seed=5)
    assert TrainSettings(**json.loads(json.dumps(dataclasses.asdict(settings)))) == settings


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainSettings(**NAMED).epochs = 3
