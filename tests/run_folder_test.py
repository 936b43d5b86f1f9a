"""The run folder: round trip, corrupt files, complete or absent files."""

import dataclasses
import json
import os
import re

import keras
import numpy as np
import pytest

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.files import complete_file, write_json
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
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'config.json'} is corrupt")):
        RunConfig.read(tmp_path)


def test_refuses_the_config_of_other_software(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}', encoding="utf-8")
    with pytest.raises(
        InputError, match="has format None; this version of cxr-tfds reads format 2"
    ):
        RunConfig.read(tmp_path)


def test_complete_file_leaves_nothing_after_an_error(tmp_path):
    target = tmp_path / "config.json"
    for before in (False, True):
        if before:
            target.write_text("old", encoding="utf-8")
        with pytest.raises(ZeroDivisionError), complete_file(target) as beside:
            beside.write_text(f"half of it {1 / 0}", encoding="utf-8")
        assert names(tmp_path) == (["config.json"] if before else [])
    assert target.read_text(encoding="utf-8") == "old"


def test_complete_file_replaces_the_old_file(tmp_path):
    target = tmp_path / "config.json"
    for text in ("old", "new"):
        with complete_file(target) as beside:
            beside.write_text(text, encoding="utf-8")
            assert target.exists() == (text == "new")
    assert target.read_text(encoding="utf-8") == "new"
    assert names(tmp_path) == ["config.json"]


def test_writers_of_one_file_do_not_interfere(tmp_path):
    target = tmp_path / "best.weights.h5"
    with complete_file(target) as slow:
        slow.write_text("half", encoding="utf-8")
        with complete_file(target) as quick:
            quick.write_text("quick", encoding="utf-8")
        assert target.read_text(encoding="utf-8") == "quick"
        assert slow.read_text(encoding="utf-8") == "half"
    assert slow.name.endswith(target.name)  # Keras and NumPy need the suffix
    assert names(tmp_path) == [target.name]


@pytest.mark.parametrize("remove", ["another writer", "clear"])
def test_removes_abandoned_files_after_a_day(tmp_path, remove):
    old, fresh, foreign = (
        f".writing-{'0' * 16}-a.npy",
        f".writing-{'1' * 16}-a.npy",
        ".writing-table",
    )
    for name in (old, fresh, foreign):
        (tmp_path / name).write_text("half", encoding="utf-8")
    for name in (old, foreign):
        os.utime(tmp_path / name, (0, 0))
    kept = [fresh, foreign]
    if remove == "clear":
        run_folder.clear(tmp_path)
    else:
        write_json(tmp_path / "b.json", {})
        kept.append("b.json")
    assert names(tmp_path) == sorted(kept)


def test_metrics_are_empty_before_the_run_is_measured(tmp_path):
    assert run_folder.read_metrics(tmp_path) == {}
    write_json(tmp_path / "metrics.json", {"test": {"images": 3}})
    assert run_folder.read_metrics(tmp_path) == {"test": {"images": 3}}


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
        InputError, match=re.escape(f"{tmp_path / 'model.keras'} is corrupt. Train again.")
    ):
        run_folder.load_model(tmp_path)


def test_clear_removes_only_the_files_of_a_run(tmp_path):
    files = (
        "config.json",
        "model.keras",
        "history.csv",
        "metrics.json",
        "stress.json",
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
