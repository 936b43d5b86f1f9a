"""Training: what stands in the run folder, repeating and resuming to the last bit, what is refused."""

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.evaluation import scoring as evaluation
from cxr_tfds.evaluation.scoring import open_run_dataset, score
from cxr_tfds.export.pack import export_run
from cxr_tfds.reading import sequential
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.training import checkpoint, finish
from cxr_tfds.training import run as training
from cxr_tfds.training.settings import TrainSettings

FILES = [
    "MODEL_CARD.md",
    "config.json",
    "history.csv",
    "metrics.json",
    "model.keras",
    "pictures",
    "report.html",
]
FILES += ["stress.json", "tensorboard"]


def settings(built, **changes):
    tiny = {
        "dataset": "chest_xray_pneumonia/64",
        "data_dir": str(built),
        "epochs": 3,
        "batch_size": 8,
    }
    return TrainSettings(**{**tiny, **changes})


@pytest.fixture(scope="module")
def reads():
    """What `run` read in order: split and fields."""
    return []


@pytest.fixture(scope="module")
def run(built, tmp_path_factory, reads):
    """Three epochs, uninterrupted, augmented."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    read = sequential.field_batches

    def field_batches(dataset, split, fields, **more):
        reads.append((split, fields))
        return read(dataset, split, fields, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequential, "field_batches", field_batches)
        assert training.train(settings(built), folder) == run_folder.read_metrics(folder)
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def history(folder):
    with (folder / "history.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_same_run(one, other):
    assert history(one) == history(other)
    assert run_folder.read_metrics(one) == run_folder.read_metrics(other)
    for mine, theirs in zip(
        *(run_folder.load_model(each).get_weights() for each in (one, other)), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


def test_the_run_folder_holds_the_promised_files_and_no_more(run):
    assert names(run) == FILES


def test_the_config_repeats_the_run(run, built):
    config = RunConfig.read(run)
    assert TrainSettings(**config.settings) == settings(built)
    assert config.labels == ("NORMAL", "PNEUMONIA")
    assert (config.shape, config.fit, config.precision) == ((64, 64, 1), "stretch", "float32")
    assert open_run_dataset(config).fingerprint == config.dataset["fingerprint"]
    assert config.dataset["name"] == "chest_xray_pneumonia/64:1.0.0"
    assert config.environment["keras"] == keras.__version__


def test_the_labels_of_test_are_counted_first_and_its_images_read_once_and_last(run, reads):
    assert reads[:3] == [(split, ("label",)) for split in ("train", "validation", "test")]
    of_images = [split for split, fields in reads if "image" in fields and split != "train"]
    assert of_images == ["validation"] * 4 + ["test"]  # three epochs, then the end


def test_every_metric_has_an_interval(run):
    measured = run_folder.read_metrics(run)
    assert list(measured) == ["validation", "test"]
    for table in measured.values():
        intervals = {
            name: value
            for name, value in table.items()
            if isinstance(value, dict) and "low" in value
        }
        assert {"auc", "accuracy", "sensitivity", "specificity", "brier"} <= set(intervals)
        for name, interval in intervals.items():
            assert interval["low"] >= 0, name
            assert interval["high"] <= 1, name
        assert intervals["brier"]["low"] < intervals["brier"]["high"]
    assert measured["test"]["images"] == 40


def test_the_model_is_that_of_the_best_epoch(run):
    rows = history(run)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert all(float(row["learning_rate"]) > 0 for row in rows)  # of the last step of each
    best = max(float(row["val_auc"]) for row in rows)
    assert run_folder.read_metrics(run)["validation"]["auc"]["value"] == pytest.approx(best)


def test_the_model_holds_its_pixel_range_and_no_augmentation(run):
    model = run_folder.load_model(run)
    assert not [layer for layer in model.layers if "ugment" in type(layer).__name__]
    assert any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 1), np.uint8)
    twice = [np.asarray(model(images, training=False)) for _ in range(2)]
    np.testing.assert_array_equal(*twice)


_KILLED = """
import os, signal, sys
from pathlib import Path
from cxr_tfds import run_folder
from cxr_tfds.training import run as training
from cxr_tfds.training.settings import TrainSettings

def write_json(path, content, write=files.write_json):
    # Weights and best weights of the second epoch are written, its state is not.
    if path.name == "state.json" and content["epoch"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, content)

files.write_json = write_json
dataset, data_dir, run = sys.argv[1:]
training.train(TrainSettings(dataset=dataset, data_dir=data_dir, epochs=3, batch_size=8), Path(run))
"""


def test_a_killed_run_goes_on_to_the_same_weights(run, built, tmp_path):
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", _KILLED, "chest_xray_pneumonia/64", str(built), str(killed)]
    done = subprocess.run(
        command, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert names(killed) == ["checkpoint", "config.json", "history.csv", "tensorboard"]
    assert (
        json.loads((killed / "checkpoint" / "state.json").read_text(encoding="utf-8"))["epoch"] == 1
    )
    with pytest.raises(
        InputError, match="was started with other settings: seed 0, now 1\\. Give the same ones"
    ):
        training.train(settings(built, seed=1), killed, resume=True)
    with pytest.raises(MissingData, match="the run did not finish"):
        run_folder.load_model(killed)
    training.train(settings(built), killed, resume=True)
    assert names(killed) == FILES
    assert_same_run(killed, run)
    with pytest.raises(InputError, match="is finished; there is nothing to resume"):
        training.train(settings(built), killed, resume=True)


def fail(*_args, **_kwargs):
    raise RuntimeError("on purpose")


def test_a_run_interrupted_after_its_last_epoch_is_measured_on_resuming(
    built, tiny_model, tmp_path, monkeypatch
):
    tiny = settings(built, model=tiny_model, epochs=1, augment="none", threshold_rule="youden")
    with monkeypatch.context() as patch:
        patch.setattr(finish, "write_report", fail)
        with pytest.raises(RuntimeError, match="on purpose"):
            training.train(tiny, tmp_path / "run")
    assert "model.keras" not in names(tmp_path / "run")
    training.train(tiny, tmp_path / "run", resume=True)
    assert names(tmp_path / "run") == FILES
    assert len(history(tmp_path / "run")) == 1


def check_mixed(folder, precision):
    """The model is float32, gives the recorded figures, and converts."""
    assert RunConfig.read(folder).precision == precision
    assert keras.config.dtype_policy().name == "float32"
    model = run_folder.load_model(folder)
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    test_a_run_reproduces_its_figures(folder)
    (exported,) = export_run(folder, folder / "export", ("float32",))
    assert exported.comparisons["test"].agreement == 1
    assert exported.comparisons["test"].max_difference < 1e-4


def test_mixed_float16_resumes_to_the_same_weights(built, tiny_model, tmp_path, monkeypatch):
    tiny = settings(
        built,
        model=tiny_model,
        epochs=2,
        augment="none",
        threshold_rule="youden",
        precision="mixed_float16",
    )
    training.train(tiny, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "best_epoch", lambda history: 1 if len(history) == 1 else fail())
        with pytest.raises(RuntimeError, match="on purpose"):
            training.train(tiny, tmp_path / "resumed")
    config = RunConfig.read(tmp_path / "resumed")
    dataclasses.replace(config, precision="float32").write(
        tmp_path / "resumed"
    )  # as if "auto" on another machine
    with pytest.raises(InputError, match="dtype policy 'float32', now 'mixed_float16'"):
        training.train(tiny, tmp_path / "resumed", resume=True)
    config.write(tmp_path / "resumed")
    training.train(tiny, tmp_path / "resumed", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "resumed")
    check_mixed(tmp_path / "whole", "mixed_float16")


def test_a_run_in_mixed_bfloat16(built, tiny_model, tmp_path):
    tiny = settings(
        built,
        model=tiny_model,
        epochs=1,
        augment="none",
        threshold_rule="youden",
        precision="mixed_bfloat16",
    )
    training.train(tiny, tmp_path)
    check_mixed(tmp_path, "mixed_bfloat16")


def test_a_run_reproduces_its_figures(run):
    model, config = run_folder.load_model(run), RunConfig.read(run)
    for split, table in run_folder.read_metrics(run).items():
        scores = score(model, open_run_dataset(config), split, config.temperature)
        assert evaluation.measure(scores, config) == table


@pytest.mark.parametrize(
    ("error", "batch_size", "advice"),
    [
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM"),
            8,
            "batches of 8 images. Try --batch-size 4, with",
        ),
        (
            MemoryError(),
            1,
            "batches of 1 images. Try a smaller model or smaller images, with --overwrite.",
        ),
    ],
)
def test_out_of_memory_says_which_batch_size_to_try(
    built, tiny_model, tmp_path, monkeypatch, error, batch_size, advice
):
    def step(*_):
        raise error

    monkeypatch.setattr(training.Learner, "step", step)
    with pytest.raises(InputError, match=re.escape(f"out of memory with {advice}")):
        training.train(
            settings(built, model=tiny_model, augment="none", batch_size=batch_size), tmp_path
        )
    assert names(tmp_path) == ["config.json"]


def test_scalars_for_tensorboard(run):
    found = {}
    for path in sorted((run / "tensorboard").iterdir()):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    rows = history(run)
    assert found == {
        (key, int(row["epoch"])): pytest.approx(float(value), abs=1e-6)
        for row in rows
        for key, value in row.items()
        if key != "epoch"
    }


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_a_damaged_shard_ends_the_run(built, tmp_path, cache):
    shutil.copytree(built, tmp_path / "data")
    shard = next((tmp_path / "data").rglob("*-train.tfrecord*"))
    data = shard.read_bytes()
    shard.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
    message = rf"{re.escape(str(shard))} is damaged: example 66 of 66, at byte \d+, is not as it was written\."
    with pytest.raises(InputError, match=message):
        training.train(settings(tmp_path / "data", cache=cache, augment="none"), tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 1000}, "batch size 1000; expected 1 to "),
        ({"dataset": "chest_xray_pneumonia/96"}, "chest_xray_pneumonia/96 is not built in "),
        (
            {"size": 96},
            "chest_xray_pneumonia/64:1.0.0 holds images of 64 x 64; only the config `original`",
        ),
        (
            {"channels": 3},
            "chest_xray_pneumonia/64:1.0.0 holds images of 64 x 64; only the config `original`",
        ),
        (
            {"model": "covid-cnn4"},
            "model covid-cnn4 takes images of at least 32 x 32 pixels and 3 channels",
        ),
        (
            {"weights": "/nowhere/model.keras"},
            "weights /nowhere/model.keras do not exist; expected none, imagenet or",
        ),
        ({"weights": "imagenet"}, "model edge has no ImageNet weights; "),
        (
            {"class_weight": "1,2,3"},
            "class_weight='1,2,3' has 3 numbers; expected 2, for NORMAL, PNEUMONIA.",
        ),
    ],
)
def test_a_run_that_cannot_start_leaves_the_old_one_alone(run, built, tmp_path, change, message):
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    with pytest.raises(InputError) as caught:
        training.train(settings(built, **change), tmp_path)
    assert str(caught.value).startswith(message)
    assert_same_run(tmp_path, run)


def test_images_too_small_leave_the_old_run_alone(run, built, tmp_path):
    (tmp_path / "model.keras").write_bytes((run / "model.keras").read_bytes())
    with pytest.raises(
        InputError, match="at least 94 x 94 pixels and 1 channel; the dataset has 64 x 64 x 1"
    ):
        training.train(settings(built, model="xray-cnn5"), tmp_path)
    assert names(tmp_path) == ["model.keras"]


def test_a_dataset_with_other_examples_is_refused(run, built):
    config = RunConfig.read(run)
    config.dataset["fingerprint"] = "0" * 64
    with pytest.raises(InputError, match="holds other examples than the run was trained on"):
        open_run_dataset(config)
    config.settings["data_dir"] = "/nowhere"
    with pytest.raises(MissingData, match="is not built in /nowhere"):
        open_run_dataset(config)
    with pytest.raises(InputError, match="holds other examples"):
        open_run_dataset(config, built)


@pytest.mark.parametrize(("has_gpu", "policy"), [(True, "mixed_float16"), (False, "float32")])
def test_auto_precision(monkeypatch, has_gpu, policy):
    monkeypatch.setattr(
        training.tf.config, "list_physical_devices", lambda kind: ["one"] if has_gpu else []
    )
    assert training.resolve_precision("auto") == policy
    assert training.resolve_precision("mixed_bfloat16") == "mixed_bfloat16"


def test_mixup_mixes_labels_as_images(built):
    from cxr_tfds.augmentation.augment import mix
    from cxr_tfds.reading import Shard
    from cxr_tfds.reading.datasets import open_dataset
    from cxr_tfds.reading.names import DatasetName
    from cxr_tfds.reading.pipeline import with_mixup

    dataset = open_dataset(DatasetName.parse("chest_xray_pneumonia/64"), built)
    plain = dataset.train(8)
    ((_, shares), labels), (_, before) = (
        next(iter(batches)) for batches in (with_mixup(plain, 0.3, seed=0, shard=Shard()), plain)
    )
    assert 0 <= np.min(shares) < 0.2 < 0.8 < np.max(shares) <= 1
    mixed = np.asarray(mix(before[:, :, np.newaxis, np.newaxis], shares))[
        :, :, 0, 0
    ]  # labels as images of one pixel
    np.testing.assert_allclose(labels, mixed, atol=1e-6)
    again = next(iter(with_mixup(plain.skip(3), 0.3, seed=0, first_batch=3, shard=Shard())))
    (*_, fourth) = with_mixup(plain, 0.3, seed=0, shard=Shard()).take(4)
    np.testing.assert_array_equal(again[0][1], fourth[0][1])
