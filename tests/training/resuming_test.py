"""A resumed run has exactly the numbers of an uninterrupted one, with every kind of setting."""

import itertools
import json
import re

import keras
import numpy as np
import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.models import build_model
from cxr_tfds.training import run as training
from cxr_tfds.training.settings import TrainSettings

NAME = "chest_xray_pneumonia/64"


class Stop(RuntimeError):
    pass


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
    """Returns a function that trains and interrupts the run after each epoch of `stops`."""
    monkeypatch.setattr(
        training, "finish_run", lambda model, dataset, run, config: {"weights": model.get_weights()}
    )

    def run(name, *stops, **changes):
        settings = TrainSettings(**everything | changes)
        for number, stop in enumerate(stops):

            def write_scalars(run, row, stop=stop):
                if row["epoch"] == stop:
                    raise Stop

            with monkeypatch.context() as patch:
                patch.setattr(training, "write_scalars", write_scalars)
                with pytest.raises(Stop):
                    training.run_training(settings, tmp_path / name, resume=number > 0)
        weights = training.run_training(settings, tmp_path / name, resume=bool(stops))["weights"]
        state = json.loads(
            (tmp_path / name / "checkpoint" / "state.json").read_text(encoding="utf-8")
        )
        with np.load(tmp_path / name / "checkpoint" / f"epoch-{state['epoch']}.npz") as arrays:
            return state["history"], weights, [arrays[key] for key in arrays.files]

    return run


def assert_equal(one, other):
    assert one[0] == other[0]
    for mine, theirs in zip(one[1:], other[1:], strict=True):
        for values, others in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(values, others)


@pytest.mark.slow
def test_two_phases_resume_at_any_epoch(trained):
    whole = trained("whole")
    rates = [row["learning_rate"] for row in whole[0]]
    assert rates[:2] == pytest.approx([0.05, 0.05])  # only the last layer
    assert rates[2] == pytest.approx(0.005)
    assert rates[-1] < 0.004, "the plateau schedule never lowered the rate"
    assert_equal(trained("resumed", 1, 2, 5), whole)


@pytest.mark.slow
def test_early_stopping_ends_a_resumed_run_at_the_same_epoch(trained):
    changes = {"early_stopping": 2, "learning_rate": 0.5, "schedule": "constant", "epochs": 20}
    whole = trained("whole", **changes)
    losses = [row["val_loss"] for row in whole[0]][2:]
    assert len(losses) < 18
    assert len(losses) == int(np.argmin(losses)) + 3
    assert_equal(trained("resumed", len(whole[0]), **changes), whole)  # it ends at once


@pytest.mark.slow
def test_each_phase_trains_only_its_layers(trained, everything, monkeypatch):
    states = [build_model("tiny", (64, 64, 1), 1, weights=everything["weights"]).get_weights()]

    def keep(run, row):
        with np.load(run / "checkpoint" / f"epoch-{row['epoch']}.npz") as arrays:
            states.append([arrays[f"arr_{i}"] for i in range(10)])

    monkeypatch.setattr(training, "write_scalars", keep)
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
    path = tmp_path / "whole" / "checkpoint" / "epoch-3.npz"
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
