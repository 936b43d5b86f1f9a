"""The run folder: round trip, corrupt files, complete or absent files."""

import dataclasses
import json
import re

import keras
import numpy as np
import pytest
from helpers.json_files import METRICS

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.files import write_json
from cxr_tfds.run_folder import RunConfig

CONFIG = RunConfig(
    settings={"dataset": "chest_xray_pneumonia/64", "epochs": 2},
    dataset={"name": "chest_xray_pneumonia/64:1.0.0", "fingerprint": "ab" * 32},
    labels=("NORMAL", "PNEUMONIA"),
    shape=(64, 64, 1),
    fit="stretch",
    precision="float32",
    environment={"python": "3.11.9"},
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("threshold", [None, 0.25])
def test_config_round_trip(tmp_path, threshold):
    config = dataclasses.replace(CONFIG, threshold=threshold, temperature=1.5)
    config.write(tmp_path)
    assert RunConfig.read(tmp_path) == config
    assert names(tmp_path) == ["config.json"]


def test_refuses_a_folder_without_config(tmp_path):
    for folder, what in (
        (tmp_path, "is not a run folder (no config.json)"),
        (tmp_path / "missing", "does not exist"),
    ):
        with pytest.raises(
            MissingData,
            match=re.escape(f"{folder} {what}. Make a run folder with: cxr-train --out {folder}"),
        ):
            RunConfig.read(folder)


def test_refuses_another_format(tmp_path):
    dataclasses.replace(CONFIG, format=99).write(tmp_path)
    with pytest.raises(
        InputError,
        match=r"config\.json has format 99; this version of cxr-tfds reads format 2\. Train again",
    ):
        RunConfig.read(tmp_path)


VALID = dataclasses.asdict(CONFIG)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        json.dumps({**VALID, "labels": None}).encode(),
        json.dumps({**VALID, "shape": 64}).encode(),
        json.dumps({**VALID, "surprise": 1}).encode(),
        json.dumps({"format": run_folder.FORMAT}).encode(),
    ],
    ids=["empty", "cut", "binary", "list", "null", "labels", "shape", "unknown", "missing"],
)
def test_names_a_corrupt_config(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(
        InputError,
        match=re.escape(str(tmp_path / "config.json")) + " (is corrupt|has the unknown key)",
    ):
        RunConfig.read(tmp_path)


def test_refuses_the_config_of_other_software(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}', encoding="utf-8")
    with pytest.raises(
        InputError, match="has format None; this version of cxr-tfds reads format 2"
    ):
        RunConfig.read(tmp_path)


def test_metrics_are_empty_before_the_run_is_measured(tmp_path):
    assert run_folder.read_metrics(tmp_path) == {}
    write_json(tmp_path / "metrics.json", {"test": METRICS})
    assert run_folder.read_metrics(tmp_path) == {"test": METRICS}


@pytest.mark.parametrize("name", ["metrics.json", "stress.json"])
@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b'{"test": 1}', b"3"])
def test_names_corrupt_metrics(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / name} is corrupt")):
        run_folder.read_metrics(tmp_path, name)


@pytest.fixture(scope="module")
def model_bytes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    run_folder.save_model(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), folder)
    assert names(folder) == ["model.keras"]
    return (folder / "model.keras").read_bytes()


def test_model_round_trip(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    run_folder.save_model(model, tmp_path)
    values = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(
        np.asarray(run_folder.load_model(tmp_path)(values)), np.asarray(model(values))
    )


def test_run_without_model_is_not_finished(tmp_path):
    with pytest.raises(MissingData, match="the run is not finished"):
        run_folder.load_model(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped", "foreign zip"])
def test_names_a_corrupt_model(tmp_path, model_bytes, damage):
    middle = model_bytes.index(b"HDF") + 200
    content = {
        "empty": b"",
        "text": b"hello",
        "cut": model_bytes[: len(model_bytes) // 2],
        "flipped": model_bytes[:middle]
        + bytes(byte ^ 0xFF for byte in model_bytes[middle:][:64])
        + model_bytes[middle + 64 :],
        "foreign zip": b"PK\x05\x06" + bytes(18),
    }[damage]
    (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(
        InputError,
        match=re.escape(str(tmp_path / "model.keras")) + r" is corrupt: .+\. Train again\.",
    ):
        run_folder.load_model(tmp_path)


def test_clear_removes_only_the_files_of_a_run(tmp_path):
    files = (
        "config.json",
        "model.keras",
        "history.csv",
        "metrics.json",
        "stress.json",
        "profile.json",
        "report.html",
        "MODEL_CARD.md",
    )
    for name in (*files, "notes.txt"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    for name in ("checkpoint/a.txt", "pictures/roc.png", "pictures/a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
    run_folder.clear(tmp_path)
    assert names(tmp_path) == ["notes.txt", "pictures"]
    assert names(tmp_path / "pictures") == ["a.txt"]
    run_folder.clear(tmp_path)  # nothing left to remove


def test_clear_removes_the_folder_of_pictures(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "roc.png").write_bytes(b"x")
    run_folder.clear(tmp_path)
    assert names(tmp_path) == []


def test_no_code_of_a_model_runs(tmp_path):
    written = tmp_path / "written"

    def write(values):
        written.touch()
        return values

    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(write)])
    written.unlink(missing_ok=True)
    run_folder.save_model(model, tmp_path)
    with pytest.raises(InputError, match=r"model\.keras contains code \(Lambda\)"):
        run_folder.load_model(tmp_path)
    assert not written.exists()
