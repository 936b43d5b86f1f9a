"""Settings of a run: allowed values, messages, and the table for the docs."""

import dataclasses
import json

import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.training.settings import TrainSettings, settings_table

REQUIRED = {"dataset": "chest_xray_pneumonia/64", "data_dir": "data"}


def test_reads_the_cache_of_earlier_runs():
    assert TrainSettings.from_dict({**REQUIRED, "cache": "ram"}).cache == "auto"


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("epochs", 0, "epochs=0; expected at least 1."),
        ("epochs", 2.5, "epochs=2.5; expected a whole number"),
        ("epochs", True, "epochs=True; expected a whole number"),
        ("epochs", "3", "epochs='3'; expected a whole number"),
        ("epochs", None, "epochs=None; expected a whole number"),
        ("batch_size", 0, "batch_size=0; expected at least 1."),
        ("learning_rate", 0.0, "learning_rate=0.0; expected more than 0 and less than 1."),
        ("learning_rate", 1.0, "learning_rate=1.0; expected more than 0 and less than 1."),
        ("learning_rate", float("nan"), "learning_rate=nan; expected more than 0 and less than 1."),
        ("learning_rate", "high", "learning_rate='high'; expected a number"),
        ("weight_decay", -0.1, "weight_decay=-0.1; expected at least 0 and less than 1."),
        ("weight_decay", 1.0, "weight_decay=1.0; expected at least 0 and less than 1."),
        ("precision", "float16", "precision: 'float16' is not one of 'auto', 'float32', "),
        ("precision", "float16", "Did you mean 'mixed_float16'?"),
        ("cache", "disk", "cache: 'disk' is not one of 'auto', 'file', 'none'."),
        ("augment", "mild", "augment: 'mild' is not one of 'none', 'classic', 'default', 'strong'"),
        ("model", "resnet", "model: 'resnet' is not one of 'edge', "),
        ("target", "patient", "target: 'patient' is not one of 'label', 'finding'."),
        ("optimizer", "sgd", "optimizer: 'sgd' is not one of 'adamw', 'adam'."),
        ("schedule", "linear", "schedule: 'linear' is not one of 'cosine', 'plateau', 'constant'."),
        ("steps_per_epoch", 0, "steps_per_epoch=0; expected at least 1."),
        ("early_stopping", -1, "early_stopping=-1; expected at least 0."),
        ("clip_norm", -0.5, "clip_norm=-0.5; expected at least 0."),
        ("clip_norm", float("inf"), "clip_norm=inf; expected at least 0."),
        ("label_smoothing", 1.0, "label_smoothing=1.0; expected at least 0 and less than 1."),
        ("average", -0.1, "average=-0.1; expected at least 0 and less than 1."),
        ("warm_up", 1.0, "warm_up=1.0; expected at least 0 and less than 1."),
        ("class_weight", "1,x", "class_weight='1,x'; expected none, balanced, or one positive "),
        ("class_weight", "1,-2", "class_weight='1,-2'; expected none, balanced, or one positive "),
        ("channels", 2, "channels: '2' is not one of '1', '3'."),
        ("size", 5000, "size=5000; expected at least 1 and at most 4096."),
        ("threshold_rule", "best", "threshold_rule='best'; expected youden, "),
        ("data_service", "localhost:1", "'localhost:1'; expected grpc://HOST:PORT"),
        ("freeze_epochs", 30, "freeze_epochs=30; expected 0 to 29, because at least one of the 30"),
        ("freeze_epochs", 3, "--freeze-epochs keeps trained weights, but --weights none starts "),
        ("freeze", "conv2d", "--freeze keeps trained weights, but --weights none starts from "),
        ("seed", -1, "seed=-1; expected at least 0 and at most 2147483647."),
        ("seed", 2**31, "seed=2147483648; expected at least 0 and at most 2147483647."),
    ],
)
def test_refuses_invalid_values(setting, value, message):
    with pytest.raises(InputError) as caught:
        TrainSettings(**{**REQUIRED, setting: value})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 1),
        ("batch_size", 1),
        ("weight_decay", 0.0),
        ("weight_decay", 0),
        ("seed", 2**31 - 1),
        ("learning_rate", 1e-9),
        ("class_weight", "1,2.5"),
        ("threshold_rule", "sensitivity>=0.95"),
        ("average", 0.999),
        ("channels", 3),
        ("size", 4096),
    ],
)
def test_accepts_the_ends_of_a_range(setting, value):
    assert getattr(TrainSettings(**{**REQUIRED, setting: value}), setting) == value


def test_settings_survive_json():
    settings = TrainSettings(**REQUIRED, seed=5)
    stored = json.loads(json.dumps(dataclasses.asdict(settings)))
    assert TrainSettings.from_dict(stored) == settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**REQUIRED, "epoch": 3}, "Unknown training setting: 'epoch' is not one of "),
        ({**REQUIRED, "epoch": 3}, r"Did you mean 'freeze_epochs'\?|Did you mean 'epochs'\?"),
        ({"dataset": "a/b"}, "The training setting 'data_dir' is missing."),
    ],
)
def test_refuses_unknown_and_missing_names(values, message):
    with pytest.raises(InputError, match=message):
        TrainSettings.from_dict(values)


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainSettings(**REQUIRED).epochs = 3


def test_table_has_a_row_for_each_setting():
    head, line, *rows = settings_table().splitlines()
    assert head == "| Option | Default | Allowed | Meaning |"
    assert {row.count("|") for row in (head, line, *rows)} == {5}
    assert len(rows) == len(dataclasses.fields(TrainSettings))
    assert "| `--epochs` | `30` | at least 1 | Number of epochs. |" in rows
    (weights,) = (row for row in rows if row.startswith("| `--weights` |"))
    assert "| `none` | `none`, `imagenet`, `PATH` |" in weights
