"""A resumed run has exactly the numbers of an uninterrupted one, with every kind of setting."""

import itertools
import json
import re
from typing import NamedTuple

import keras
import numpy as np
import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.models import build_model
from cxr_tfds.training import checkpoint
from cxr_tfds.training import run as training
from cxr_tfds.training.checkpoint import Checkpoint
from cxr_tfds.training.learner import Learner
from cxr_tfds.training.settings import TrainSettings

NAME = "chest_xray_pneumonia/64"


class Killed(BaseException):
    """Ends a run at once: like a signal, it is not an `Exception`."""


@pytest.fixture
def everything(built, tiny_model, tmp_path):
    """Settings of every kind of state: phases, plateau, average, random numbers, short epochs."""
    keras.utils.set_random_seed(0)  # with some initial weights, the plateau lowers no rate
    (tmp_path / "before").mkdir()
    build_model(tiny_model, (64, 64, 1), 1).save(tmp_path / "before" / "model.keras")
    return {
        "dataset": NAME,
        "data_dir": str(built),
        "model": tiny_model,
        "weights": str(tmp_path / "before" / "model.keras"),
        "freeze_epochs": 2,
        "freeze": "first",
        "epochs": 7,
        "steps_per_epoch": 5,
        "batch_size": 16,
        "optimizer": "adam",
        "learning_rate": 0.05,
        "schedule": "plateau",
        "average": 0.9,
        "label_smoothing": 0.1,
        "class_weight": "balanced",
        "clip_norm": 1.0,
        "augment": "none",
        "augment_changes": {"noise": 0.05, "mixup": 0.2},  # random numbers without slow compilation
    }


@pytest.fixture
def trained(everything, tmp_path, monkeypatch):
    """Returns a function that trains, kills the run in each place of `kills`, and resumes it.

    A place is the name of a function and the number of finished steps at which it is called. Every
    third step ends with a checkpoint.
    """
    monkeypatch.setattr(
        training,
        "finish_run",
        lambda model, dataset, run, config, *_: {"weights": model.get_weights()},
    )

    def save_every_third(self):
        if self.learner.steps_done() % 3 == 0:
            self.save()

    monkeypatch.setattr(Checkpoint, "save_if_due", save_every_third)

    def run(name, *kills, error=Killed, **changes):
        settings, folder = TrainSettings(**everything | changes), tmp_path / name
        for number, (place, step) in enumerate(kills):
            owner, function = PLACES[place]
            original = getattr(owner, function)
            learners = []

            def watched_learner(*args, learners=learners, **more):
                learners.append(Learner(*args, **more))
                return learners[0]

            def kill(*args, step=step, learners=learners, original=original, **more):
                if learners[0].steps_done() == step:
                    raise error
                return original(*args, **more)

            with monkeypatch.context() as patch:
                patch.setattr(owner, function, kill)
                patch.setattr(training, "Learner", watched_learner)
                with pytest.raises(error):
                    training.run_training(settings, folder, resume=number > 0)
        weights = training.run_training(settings, folder, resume=bool(kills))["weights"]
        state = json.loads((folder / "checkpoint" / "state.json").read_text(encoding="utf-8"))
        assert state["step"] == 0
        last = folder / "checkpoint" / f"epoch-{state['epoch']}-step-0.npz"
        assert set((folder / "checkpoint").glob("epoch-*")) == {last}
        files = [(folder / file).read_bytes() for file in ("config.json", "history.csv")]
        names = sorted(path.name.split(".")[-1] for path in (folder / "tensorboard").iterdir())
        with np.load(last) as arrays:
            values = [*weights, *(arrays[key] for key in arrays.files)]
        return Result([state, files, names], values)

    return run


class Result(NamedTuple):
    """What a run leaves."""

    files: list
    arrays: list

    @property
    def history(self):
        return self.files[0]["history"]


PLACES = {
    "a step": (Learner, "step"),
    "the end of an epoch": (Checkpoint, "end_epoch"),
    "writing the arrays": (checkpoint.np, "savez"),  # within the block of a temporary file
    "writing the state": (checkpoint, "write_json"),  # the arrays are complete
    "writing the history": (checkpoint, "write_history"),  # the best weights are complete
}
STEPS = 5  # of an epoch


def assert_equal(one, other):
    assert one.files == other.files
    for mine, theirs in zip(one.arrays, other.arrays, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
def test_a_run_resumes_at_any_step(trained):
    whole = trained("whole")
    rates = [row["learning_rate"] for row in whole.history]
    assert rates[:2] == pytest.approx([0.05, 0.05])  # only the last layer
    assert rates[2] == pytest.approx(0.005)
    assert rates[-1] < 0.004, "the plateau schedule never lowered the rate"
    kills = [
        ("writing the arrays", 3),  # of the first checkpoint
        ("a step", 4),  # in the first phase
        ("writing the history", 5),
        ("writing the state", 9),  # in the second epoch
        ("a step", 11),  # in the next phase, whose optimizer no checkpoint has yet
        ("the end of an epoch", 15),  # after a checkpoint of all its steps
        ("writing the state", 20),
    ]
    assert_equal(trained("resumed", *kills), whole)


@pytest.mark.slow
def test_an_interrupted_run_saves_its_last_step(trained, tmp_path):
    changes = {"epochs": 3, "freeze_epochs": 1}
    whole = trained("whole", **changes)
    kills = [("a step", step) for step in (1, 8)]
    begun = []

    def begin(number, total, *_args, begin=training.Progress, **more):
        begun.append(number)
        return begin(number, total, *_args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "Progress", begin)
        assert_equal(trained("resumed", *kills, error=KeyboardInterrupt, **changes), whole)
    assert begun == [0, 1, 8]


@pytest.mark.slow
def test_early_stopping_ends_a_resumed_run_at_the_same_epoch(trained):
    changes = {"early_stopping": 2, "learning_rate": 0.5, "schedule": "constant", "epochs": 20}
    whole = trained("whole", **changes)
    losses = [row["val_loss"] for row in whole.history][2:]
    assert len(losses) < 18
    assert len(losses) == int(np.argmin(losses)) + 3
    last = STEPS * len(whole.history)
    assert_equal(
        trained("resumed", ("a step", last - 2), ("writing the state", last), **changes), whole
    )


@pytest.mark.slow
def test_each_phase_trains_only_its_layers(trained, everything, monkeypatch):
    states = [build_model("tiny", (64, 64, 1), 1, weights=everything["weights"]).get_weights()]

    end_epoch = Checkpoint.end_epoch

    def keep(self, epoch):
        states.append(self.learner.state()[:10])
        return end_epoch(self, epoch)

    monkeypatch.setattr(Checkpoint, "end_epoch", keep)
    trained("phases", epochs=2, freeze_epochs=1, steps_per_epoch=2)
    names = [
        "first",
        "first bias",
        "gamma",
        "beta",
        "mean",
        "variance",
        "second",
        "second bias",
        "head",
        "head bias",
    ]
    moved = [
        [name for name, a, b in zip(names, before, after, strict=True) if not np.array_equal(a, b)]
        for before, after in itertools.pairwise(states)
    ]
    assert moved == [names[-2:], names[2:]]


@pytest.mark.slow
def test_names_a_corrupt_checkpoint(trained, everything, tmp_path, monkeypatch):
    trained("whole", epochs=3)
    path = tmp_path / "whole" / "checkpoint" / "epoch-3-step-0.npz"
    settings = TrainSettings(**everything | {"epochs": 3})
    np.savez(path, np.zeros(3))
    with pytest.raises(
        InputError,
        match=re.escape(f"{path} is from another version of cxr-tfds. Start again"),
    ):
        training.run_training(settings, tmp_path / "whole", resume=True)
    path.write_bytes(b"PK")
    with pytest.raises(InputError, match=re.escape(f"Corrupt checkpoint {path}: ")):
        training.run_training(settings, tmp_path / "whole", resume=True)
