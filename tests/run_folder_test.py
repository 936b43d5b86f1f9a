"""The run folder: round trip, damage, files whole or not at all."""

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
def test_a_config_comes_back_as_it_was_written(tmp_path, threshold):
    config = dataclasses.replace(CONFIG, threshold=threshold, temperature=1.5)
    config.write(tmp_path)
    assert RunConfig.read(tmp_path) == config
    assert names(tmp_path) == ["config.json"]


def test_a_folder_without_config_is_no_run(tmp_path):
    for folder, what in (
        (tmp_path, "is not a run folder (no config.json)"),
        (tmp_path / "missing", "does not exist"),
    ):
        with pytest.raises(
            MissingData,
            match=re.escape(f"{folder} {what}. Make one with: cxr-train --out {folder}"),
        ):
            RunConfig.read(folder)


def test_a_config_of_another_format_says_so(tmp_path):
    dataclasses.replace(CONFIG, format=99).write(tmp_path)
    with pytest.raises(
        InputError, match=r"config\.json has format 99; this version reads 2\. Train the run again"
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
def test_a_damaged_config_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'config.json'} is damaged")):
        RunConfig.read(tmp_path)


def test_a_config_of_the_first_format_is_refused(tmp_path):
    """It held the rule twice and no temperature."""
    old = {name: value for name, value in VALID.items() if name != "temperature"} | {
        "threshold_rule": "youden",
        "format": 1,
    }
    (tmp_path / "config.json").write_text(json.dumps(old), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"has format 1; this version reads 2\. Train the run again"
    ):
        RunConfig.read(tmp_path)


def test_a_config_of_something_else_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}', encoding="utf-8")
    with pytest.raises(InputError, match="has format None; this version reads 2"):
        RunConfig.read(tmp_path)


def test_whole_file_leaves_nothing_behind_on_error(tmp_path):
    target = tmp_path / "config.json"
    for before in (False, True):
        if before:
            target.write_text("old", encoding="utf-8")
        with pytest.raises(ZeroDivisionError), complete_file(target) as beside:
            beside.write_text(f"half of it {1 / 0}", encoding="utf-8")
        assert names(tmp_path) == (["config.json"] if before else [])
    assert target.read_text(encoding="utf-8") == "old"


def test_whole_file_replaces_when_all_went_well(tmp_path):
    target = tmp_path / "config.json"
    for text in ("old", "new"):
        with complete_file(target) as beside:
            beside.write_text(text, encoding="utf-8")
            assert target.exists() == (text == "new")
    assert target.read_text(encoding="utf-8") == "new"
    assert names(tmp_path) == ["config.json"]


def test_writers_of_one_file_do_not_meet(tmp_path):
    target = tmp_path / "best.weights.h5"
    with complete_file(target) as slow:
        slow.write_text("half", encoding="utf-8")
        with complete_file(target) as quick:
            quick.write_text("quick", encoding="utf-8")
        assert target.read_text(encoding="utf-8") == "quick"
        assert slow.read_text(encoding="utf-8") == "half"
    assert slow.name.endswith(target.name)  # what Keras and NumPy go by
    assert names(tmp_path) == [target.name]


@pytest.mark.parametrize("remove", ["another writer", "clear"])
def test_what_killed_writers_left_is_removed_after_a_day(tmp_path, remove):
    old, fresh, someone_s = (
        f".writing-{'0' * 16}-a.npy",
        f".writing-{'1' * 16}-a.npy",
        ".writing-table",
    )
    for name in (old, fresh, someone_s):
        (tmp_path / name).write_text("half", encoding="utf-8")
    for name in (old, someone_s):
        os.utime(tmp_path / name, (0, 0))
    kept = [fresh, someone_s]
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
def test_damaged_metrics_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / name} is damaged")):
        run_folder.read_metrics(tmp_path, name)


@pytest.fixture(scope="module")
def model_bytes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    run_folder.save_model(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), folder)
    assert names(folder) == ["model.keras"]
    return (folder / "model.keras").read_bytes()


def test_a_model_comes_back_as_it_was_saved(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    run_folder.save_model(model, tmp_path)
    values = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(
        np.asarray(run_folder.load_model(tmp_path)(values)), np.asarray(model(values))
    )


def test_a_run_without_model_did_not_finish(tmp_path):
    with pytest.raises(MissingData, match="the run did not finish"):
        run_folder.load_model(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped", "foreign zip"])
def test_a_damaged_model_is_named(tmp_path, model_bytes, damage):
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
        InputError, match=re.escape(f"{tmp_path / 'model.keras'} is damaged. Train the run again.")
    ):
        run_folder.load_model(tmp_path)


def test_clear_removes_the_files_of_a_run_and_nothing_else(tmp_path):
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


def test_clear_removes_the_pictures_with_their_folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "roc.png").write_bytes(b"x")
    run_folder.clear(tmp_path)
    assert names(tmp_path) == []
