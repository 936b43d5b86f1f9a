"""Every command that writes a folder refuses one that another process is writing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from helpers.locks import holder

from cxr_tfds.commands import data, evaluate, run, train
from cxr_tfds.errors import InputError
from cxr_tfds.export import command as export
from cxr_tfds.locks import lock_folder, lock_path
from cxr_tfds.phantom.dataset import ROOT
from cxr_tfds.run_folder import MODEL, RunConfig
from cxr_tfds.training.settings import TrainSettings

TRAIN = ("--dataset", "chest_xray_pneumonia/64", "--data-dir", "nothing", "--out")


@pytest.fixture
def finished_run(tmp_path: Path) -> Path:
    """A run folder with a config, and with a model that cannot be read."""
    folder = tmp_path / "run"
    folder.mkdir()
    settings = TrainSettings(dataset="chest_xray_pneumonia/64", data_dir="nothing")
    config = RunConfig(
        settings=dataclasses.asdict(settings),
        dataset={"name": "chest_xray_pneumonia/64:1.0.0", "fingerprint": "ab" * 32},
        labels=("NORMAL", "PNEUMONIA"),
        shape=(64, 64, 1),
        fit="stretch",
        precision="float32",
        environment={},
        threshold=0.5,
    )
    config.write(folder)
    (folder / MODEL).touch()
    return folder


def refused(command: click.Command, *words: object) -> str:
    result = CliRunner().invoke(command, [str(word) for word in words])
    assert result.exit_code == 1, result.output
    return result.stderr


@pytest.mark.parametrize("name", ["train", "evaluate", "export", "run", "phantom"])
def test_refuses_a_folder_that_is_being_written(
    name: str, tmp_path: Path, finished_run: Path
) -> None:
    out = finished_run if name == "evaluate" else tmp_path / "out"
    commands: dict[str, tuple[Any, ...]] = {
        "train": (train.train, *TRAIN, out),
        "evaluate": (evaluate.evaluate, out),
        "export": (export.export, finished_run, "--out", out),
        "run": (run.run, tmp_path, "--out", out),
        "phantom": (data.cli, "phantom", "--out", out),
    }
    lock, written = (lock_path, out / ROOT) if name == "phantom" else (lock_folder, out)
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    with holder(lock, written) as process:
        message = " ".join(refused(*commands[name]).split())
    assert f"{written} is being written by process {process.pid} on " in message
    assert "start again." in message
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


class Reached(Exception):
    pass


@pytest.mark.parametrize("index", [0, 1])
def test_of_several_machines_only_the_first_locks(
    index: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reach(*_: object) -> None:
        raise Reached

    cluster = {"worker": ["localhost:1", "localhost:2"]}
    place = {"type": "worker", "index": index}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": place}))
    monkeypatch.setattr(train, "open_training_data", reach)
    with holder(lock_folder, tmp_path / "out"):
        result = CliRunner().invoke(train.train, [*TRAIN, str(tmp_path / "out")])
    if index:
        assert isinstance(result.exception, Reached), result.output
    else:
        assert "is being written by process" in " ".join(result.stderr.split())


def test_a_measurement_that_writes_nothing_needs_no_lock(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reach(*_: object) -> None:
        raise Reached

    monkeypatch.setattr(evaluate, "open_run_dataset", reach)
    with holder(lock_folder, finished_run):
        words = [str(finished_run), "--threshold-rule", "youden"]
        result = CliRunner().invoke(evaluate.evaluate, words)
    assert isinstance(result.exception, Reached), result.output


def test_resuming_a_missing_run_creates_nothing(tmp_path: Path) -> None:
    message = refused(train.train, "--out", tmp_path / "none", "--resume")
    assert "does not exist" in message
    assert not list(tmp_path.iterdir())


def test_an_error_removes_the_folder_that_the_lock_created(tmp_path: Path) -> None:
    message = refused(train.train, *TRAIN, tmp_path / "new/out")
    assert "is not built" in message
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError), lock_folder(tmp_path / "x"), lock_path(tmp_path / "x" / "y"):
        raise InputError
    assert not list(tmp_path.iterdir())
