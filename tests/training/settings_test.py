"""Settings of a run: what is allowed and what is said of the rest."""

import dataclasses
import json

import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.training.settings import TrainSettings

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
        (
            "precision",
            "float16",
            "precision='float16'; expected one of auto, float32, mixed_float16, mixed_bfloat16.",
        ),
        ("cache", "disk", "cache='disk'; expected one of auto, ram, file, none."),
        ("augment", "mild", "augment='mild'; expected one of none, classic, default, strong."),
        ("model", "resnet", "model='resnet'; expected one of edge, "),
        ("target", "patient", "target='patient'; expected one of label, finding."),
        ("optimizer", "sgd", "optimizer='sgd'; expected one of adamw, adam."),
        ("schedule", "linear", "schedule='linear'; expected one of cosine, plateau, constant."),
        ("steps_per_epoch", 0, "steps_per_epoch=0; expected at least 1."),
        ("early_stopping", -1, "early_stopping=-1, clip_norm=0.0; expected at least 0 of each."),
        ("clip_norm", -0.5, "early_stopping=0, clip_norm=-0.5; expected at least 0 of each."),
        ("label_smoothing", 1.0, "label_smoothing=1.0; expected 0 <= label_smoothing < 1."),
        ("average", -0.1, "average=-0.1; expected 0 <= average < 1."),
        ("warm_up", 1.0, "warm_up=1.0; expected 0 <= warm_up < 1."),
        (
            "class_weight",
            "1,x",
            "class_weight='1,x'; expected none, balanced, or a positive number for each class",
        ),
        (
            "class_weight",
            "1,-2",
            "class_weight='1,-2'; expected none, balanced, or a positive number for each class",
        ),
        ("channels", 2, "channels=2; expected 1 or 3."),
        ("threshold_rule", "best", "threshold_rule='best'; expected youden, "),
        (
            "freeze_epochs",
            30,
            "freeze_epochs=30; expected 0 to 29, so that of 30 epochs one is left",
        ),
        (
            "freeze_epochs",
            3,
            "--freeze-epochs keeps layers as they were learned before; with --weights none they hold",
        ),
        (
            "freeze",
            "conv2d",
            "--freeze keeps layers as they were learned before; with --weights none they hold random",
        ),
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
    [
        ("epochs", 1),
        ("batch_size", 1),
        ("weight_decay", 0.0),
        ("seed", 2**31 - 1),
        ("learning_rate", 1e-9),
        ("class_weight", "1,2.5"),
        ("threshold_rule", "sensitivity>=0.95"),
        ("average", 0.999),
        ("channels", 3),
    ],
)
def test_the_ends_of_a_range_are_allowed(setting, value):
    assert getattr(TrainSettings(**{**NAMED, setting: value}), setting) == value


def test_settings_survive_json():
    settings = TrainSettings(**NAMED, seed=5)
    assert TrainSettings(**json.loads(json.dumps(dataclasses.asdict(settings)))) == settings


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainSettings(**NAMED).epochs = 3
