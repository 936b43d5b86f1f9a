"""Validation after an epoch, the best epoch, and what a kill leaves."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.scoring import Scores
from cxr_tfds.models import build_model
from cxr_tfds.training import checkpoint
from cxr_tfds.training import run as training
from cxr_tfds.training.checkpoint import Checkpoint
from cxr_tfds.training.distributed import Devices
from cxr_tfds.training.profile import Profile
from cxr_tfds.training.settings import TrainSettings


@pytest.mark.parametrize(
    ("labels", "logits", "expected"),
    [
        # log(1 + e^-2) for a correct prediction, log(1 + e^1) for a wrong one.
        (
            [1, 0],
            [2.0, 1.0],
            {
                "val_loss": (math.log1p(math.exp(-2)) + math.log1p(math.exp(1))) / 2,
                "val_auc": 1.0,
                "val_accuracy": 0.5,
            },
        ),
        ([1, 0], [-1000.0, 1000.0], {"val_loss": 1000.0, "val_auc": 0.0, "val_accuracy": 0.0}),
        (
            [0, 2],
            [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]],
            {"val_loss": (math.log(3) + math.log(math.e + 2)) / 2, "val_accuracy": 0.5},
        ),
    ],
)
def test_validation_metrics_worked_by_hand(labels, logits, expected):
    row = checkpoint.validation_metrics(
        Scores([], [], np.array(labels), np.array(logits, np.float32))
    )
    assert row == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([(0.9, 1.0), (0.95, 2.0), (0.7, 0.1)], 2),
        ([(0.9, 1.0), (0.9, 0.5), (0.9, 0.7)], 2),  # the lower loss decides
        ([(0.9, 0.5), (0.9, 0.5)], 1),
    ],
)
@pytest.mark.parametrize("key", ["val_auc", "val_accuracy"])
def test_best_epoch(rows, best, key):
    table = [
        {"epoch": number, key: value, "val_loss": loss}
        for number, (value, loss) in enumerate(rows, 1)
    ]
    assert run_folder.best_epoch(table) == best


class Killed(BaseException):
    pass


@pytest.fixture
def epochs(tiny_model, tmp_path, monkeypatch):
    """Returns functions that open a run and end an epoch with given weights and logits."""
    wanted = {}

    def open_run():
        model = build_model(tiny_model, (64, 64, 1), 1)
        learner = SimpleNamespace(
            devices=Devices(tf.distribute.get_strategy()),
            settings=SimpleNamespace(model=tiny_model),
            take_loss=lambda: 1.0,
            accuracy=lambda: 0.5,
            learning_rate=lambda: 0.1,
            result_weights=lambda: [
                np.full(weight.shape, wanted["value"]) for weight in model.weights
            ],
            state=lambda: [np.zeros(3)],
            begin_epoch=lambda epoch, losses: None,
            load=lambda state: None,
            steps=1,
            profile=Profile(wanted=False),
            steps_done=lambda: wanted["steps"],
        )
        dataset = SimpleNamespace(shape=(64, 64, 1), outputs=1)
        return Checkpoint(tmp_path, learner, dataset, every=300)

    def end(run, epoch, value, logits):
        wanted["steps"] = epoch + 1
        wanted["value"] = value
        scores = Scores([], [], np.array([0, 1]), np.array(logits, np.float32))
        monkeypatch.setattr(checkpoint, "score", lambda model, dataset, split: scores)
        run.end_epoch(epoch)

    return open_run, end


WORST, BETTER, BEST = [1.0, -1.0], [0.0, 0.0], [-1.0, 1.0]


def best_value(run):
    (value,) = {
        float(number) for weight in run.best_model().get_weights() for number in weight.ravel()
    }
    return value


def test_best_weights_always_belong_to_the_history_after_a_kill(epochs, tmp_path, monkeypatch):
    open_run, end = epochs
    run = open_run()
    end(run, 0, 1.0, BETTER)

    def write_json(path, content):
        raise Killed

    with monkeypatch.context() as patch:  # after the best weights of the second epoch are written
        patch.setattr(checkpoint, "write_json", write_json)
        with pytest.raises(Killed):
            end(run, 1, 2.0, BEST)
    again = open_run()
    assert again.restore() == 1
    assert best_value(again) == 1.0
    end(again, 1, 3.0, WORST)  # a different result, as with a data service
    assert best_value(again) == 1.0
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == [
        "best-1.weights.h5",
        "epoch-2-step-0.npz",
        "state.json",
    ]
    end(again, 2, 4.0, BEST)
    assert best_value(again) == 4.0
    assert [path.name for path in (tmp_path / "checkpoint").glob("best-*")] == ["best-3.weights.h5"]
    (tmp_path / "checkpoint" / "best-3.weights.h5").unlink()
    with pytest.raises(
        InputError, match=r"best-3\.weights\.h5 is missing\. Start again with --overwrite\."
    ):
        open_run().restore()


@pytest.mark.parametrize("invalid", [math.nan, math.inf])
def test_a_state_with_nan_is_not_saved(epochs, tmp_path, invalid):
    open_run, end = epochs
    run = open_run()
    end(run, 0, 1.0, BETTER)
    before = {path: path.read_bytes() for path in (tmp_path / "checkpoint").iterdir()}
    run.learner.state = lambda: [np.array(3), np.array([0.5, invalid], np.float32)]
    message = f"A weight or the training loss became {invalid} in epoch 2. The earlier epochs are"
    with pytest.raises(InputError, match=re.escape(message)):
        run.save()
    assert {path: path.read_bytes() for path in (tmp_path / "checkpoint").iterdir()} == before


def settings(built, model, **changes):
    named = {
        "dataset": "chest_xray_pneumonia/64",
        "data_dir": str(built),
        "epochs": 2,
        "batch_size": 8,
    }
    return TrainSettings(**named, model=model, augment="none", **changes)


@pytest.mark.slow
def test_nan_loss_stops_the_run_and_keeps_the_checkpoint(
    built, tiny_model, tmp_path, monkeypatch, capfd
):
    losses = [float("nan"), 1.0]
    monkeypatch.setattr(training.Learner, "take_loss", lambda self: losses.pop())
    kept = tmp_path / "checkpoint"
    message = (
        f"The training loss became nan in epoch 2. The earlier epochs are saved in {kept}. "
        "Try a lower --learning-rate"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        training.run_training(settings(built, tiny_model), tmp_path)
    assert sorted(path.name for path in kept.iterdir()) == [
        "best-1.weights.h5",
        "epoch-1-step-0.npz",
        "state.json",
    ]
    assert not (tmp_path / "model.keras").exists()
    assert capfd.readouterr().err.endswith(
        "\n"
    )  # the bar is closed, so the message gets its own line


@pytest.mark.slow
@pytest.mark.parametrize(("target", "epoch"), [("label", 1), ("finding", 2)])
def test_nan_weights_are_not_saved(built, tiny_model, tmp_path, monkeypatch, target, epoch):
    """The loss of the last step is finite, because it precedes the update of the weights."""
    end_epoch, before = Checkpoint.end_epoch, []

    def spoiled(self, number):
        if number == epoch - 1:
            before.extend(sorted(path.read_bytes() for path in tmp_path.rglob("checkpoint/*")))
            for weight in self.learner.model.trainable_weights:
                weight.assign(np.full(weight.shape, np.nan))
        return end_epoch(self, number)

    monkeypatch.setattr(Checkpoint, "end_epoch", spoiled)
    tiny = settings(built, tiny_model, steps_per_epoch=1, target=target)
    with pytest.raises(
        InputError, match=rf"^A validation logit became nan in epoch {epoch}\. .*--learning-rate"
    ):
        training.run_training(tiny, tmp_path)
    assert sorted(path.read_bytes() for path in tmp_path.rglob("checkpoint/*")) == before
    assert len(before) == (0 if epoch == 1 else 3)


@pytest.mark.slow
def test_infinite_loss_in_the_first_epoch_saves_nothing(built, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(training.Learner, "take_loss", lambda self: float("inf"))
    with pytest.raises(
        InputError, match=r"^The training loss became inf in epoch 1\. Try a lower --learning-rate"
    ):
        training.run_training(settings(built, tiny_model, steps_per_epoch=1), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
