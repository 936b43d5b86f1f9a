"""Training: the files of a run folder, exact resuming, and what is refused."""

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
from cxr_tfds.evaluation.scoring import score
from cxr_tfds.export.pack import export_run
from cxr_tfds.files import format_json, write_files
from cxr_tfds.locks import LOCK
from cxr_tfds.reading import sequential
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.run_data import open_run_dataset
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.run_profile import read_profile
from cxr_tfds.training import checkpoint, finish
from cxr_tfds.training import run as training
from cxr_tfds.training.profile import Profile
from cxr_tfds.training.settings import TrainSettings

pytestmark = pytest.mark.slow

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
        "epochs": 2,
        "batch_size": 8,
        "threshold_rule": "youden",
    }
    return TrainSettings(**{**tiny, **changes})


@pytest.fixture(scope="module")
def reads():
    """The splits and fields that `run` read, in order."""
    return []


@pytest.fixture(scope="module")
def run(built, tmp_path_factory, reads):
    """Two epochs, uninterrupted, augmented."""
    folder = tmp_path_factory.mktemp("runs") / "uninterrupted"
    read = sequential.field_batches

    def field_batches(dataset, split, fields, **more):
        reads.append((split, fields))
        return read(dataset, split, fields, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequential, "field_batches", field_batches)
        assert training.run_training(settings(built), folder) == run_folder.read_metrics(folder)
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


def test_run_folder_holds_exactly_its_files(run):
    assert names(run) == FILES


def test_config_repeats_the_run(run, built):
    config = RunConfig.read(run)
    assert TrainSettings(**config.settings) == settings(built)
    assert config.labels == ("NORMAL", "PNEUMONIA")
    assert (config.shape, config.fit, config.precision) == ((64, 64, 1), "stretch", "float32")
    assert open_run_dataset(config).fingerprint == config.dataset["fingerprint"]
    assert config.dataset["name"] == "chest_xray_pneumonia/64:1.0.0"
    assert config.environment["keras"] == keras.__version__


def test_reads_the_images_of_test_once_and_last(run, reads):
    of_images = [split for split, fields in reads if "image" in fields and split != "train"]
    assert of_images == ["validation"] * 3 + ["test"]  # two epochs, then the end


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


def test_model_is_of_the_best_epoch(run):
    rows = history(run)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(float(row["learning_rate"]) > 0 for row in rows)  # of the last step of the epoch
    best = max(float(row["val_auc"]) for row in rows)
    assert run_folder.read_metrics(run)["validation"]["auc"]["value"] == pytest.approx(best)


def test_model_contains_normalization_but_no_augmentation(run):
    model = run_folder.load_model(run)
    assert not [layer for layer in model.layers if "ugment" in type(layer).__name__]
    assert any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 1), np.uint8)
    twice = [np.asarray(model(images, training=False)) for _ in range(2)]
    np.testing.assert_array_equal(*twice)


_KILLED = """
import json, os, signal, sys
from cxr_tfds.native import load_tensorflow
load_tensorflow()
import numpy as np
from cxr_tfds.training.run import train

def savez(path, *arrays, write=np.savez):
    write(path, *arrays)
    if "epoch-1-step-4" in path.name:  # complete, but not yet under its name
        os.kill(os.getpid(), signal.SIGKILL)

np.savez = savez
settings, run = sys.argv[1:]
train(out=run, checkpoint_every="1ms", **json.loads(settings))
"""


@pytest.mark.slow
def test_killed_run_resumes_to_the_same_weights(run, built, tmp_path):
    killed = tmp_path / "killed"
    values = json.dumps(dataclasses.asdict(settings(built)))
    command = [sys.executable, "-c", _KILLED, values, str(killed)]
    done = subprocess.run(
        command, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    left = [name for name in names(killed) if name != LOCK]
    assert left == ["checkpoint", "config.json", "history.csv", "tensorboard"]
    state = json.loads((killed / "checkpoint" / "state.json").read_text(encoding="utf-8"))
    assert (state["epoch"], state["step"]) == (1, 3)
    with pytest.raises(
        InputError, match="was started with different settings: seed 0, now 1\\. Use the same"
    ):
        training.run_training(settings(built, seed=1), killed, resume=True)
    with pytest.raises(MissingData, match="the run is not finished"):
        run_folder.load_model(killed)
    training.run_training(settings(built), killed, resume=True, profile=Profile())
    assert names(killed) == sorted([*FILES, "profile.json"])
    assert_same_run(killed, run)
    table = read_profile(killed)
    assert table["steps"] == 5  # of 9: three before the kill, then the one that is traced
    assert all(table["seconds"].values())  # every stage took some time
    assert table["bottleneck"] in (killed / "report.html").read_text(encoding="utf-8")
    assert (killed / "pictures" / "profile.png").is_file()
    with pytest.raises(InputError, match="is finished; there is nothing to resume"):
        training.run_training(settings(built), killed, resume=True)


@pytest.fixture
def without_report(monkeypatch):
    """Leaves the report out, which takes longer than training a tiny model."""

    def write_tables(_run, _config, _results, tables):
        write_files({path: format_json(table) for path, table in tables.items()})

    monkeypatch.setattr(finish, "write_report", write_tables)


def fail(*_args, **_kwargs):
    raise RuntimeError("on purpose")


@pytest.mark.slow
def test_resuming_finishes_a_run_interrupted_after_its_last_epoch(
    built, tiny_model, tmp_path, monkeypatch
):
    tiny = settings(built, model=tiny_model, epochs=1, augment="none", threshold_rule="youden")
    with monkeypatch.context() as patch:
        patch.setattr(finish, "write_report", fail)
        with pytest.raises(RuntimeError, match="on purpose"):
            training.run_training(tiny, tmp_path / "run")
    assert "model.keras" not in names(tmp_path / "run")
    training.run_training(tiny, tmp_path / "run", resume=True)
    assert names(tmp_path / "run") == FILES
    assert len(history(tmp_path / "run")) == 1


def check_mixed(folder, precision):
    """Checks that the model is float32, repeats its metrics and can be exported."""
    assert RunConfig.read(folder).precision == precision
    assert keras.config.dtype_policy().name == "float32"
    model = run_folder.load_model(folder)
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    test_model_repeats_the_metrics(folder)
    (exported,) = export_run(folder, folder / "export", ("float32",))
    assert exported.comparisons["test"].agreement == 1
    assert exported.comparisons["test"].max_difference < 1e-4


@pytest.mark.slow
def test_mixed_float16_resumes_to_the_same_weights(
    built, tiny_model, tmp_path, monkeypatch, without_report
):
    tiny = settings(
        built,
        model=tiny_model,
        epochs=2,
        augment="none",
        threshold_rule="youden",
        precision="mixed_float16",
    )
    training.run_training(tiny, tmp_path / "uninterrupted")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "best_epoch", lambda history: 1 if len(history) == 1 else fail())
        with pytest.raises(RuntimeError, match="on purpose"):
            training.run_training(tiny, tmp_path / "resumed")
    config = RunConfig.read(tmp_path / "resumed")
    dataclasses.replace(config, precision="float32").write(
        tmp_path / "resumed"
    )  # as if "auto" had run on another machine
    with pytest.raises(InputError, match="dtype policy 'float32', now 'mixed_float16'"):
        training.run_training(tiny, tmp_path / "resumed", resume=True)
    config.write(tmp_path / "resumed")
    training.run_training(tiny, tmp_path / "resumed", resume=True)
    assert_same_run(tmp_path / "uninterrupted", tmp_path / "resumed")
    check_mixed(tmp_path / "uninterrupted", "mixed_float16")


@pytest.mark.slow
def test_run_in_mixed_bfloat16(built, tiny_model, tmp_path, without_report):
    tiny = settings(
        built,
        model=tiny_model,
        epochs=1,
        augment="none",
        threshold_rule="youden",
        precision="mixed_bfloat16",
    )
    training.run_training(tiny, tmp_path)
    check_mixed(tmp_path, "mixed_bfloat16")


def test_model_repeats_the_metrics(run):
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
            "batch_size=8. Try --batch-size 4, with",
        ),
        (
            MemoryError(),
            1,
            "batch_size=1. Try a smaller model or smaller images, with --overwrite.",
        ),
    ],
)
def test_out_of_memory_suggests_a_batch_size(
    built, tiny_model, tmp_path, monkeypatch, error, batch_size, advice
):
    def step(*_):
        raise error

    monkeypatch.setattr(training.Learner, "step", step)
    with pytest.raises(InputError, match=re.escape(f"Out of memory with {advice}")):
        training.run_training(
            settings(built, model=tiny_model, augment="none", batch_size=batch_size), tmp_path
        )
    assert names(tmp_path) == ["config.json"]


def test_writes_scalars_for_tensorboard(run):
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


def test_names_a_corrupt_shard(built, tmp_path):
    shutil.copytree(built, tmp_path / "data")
    shard = next((tmp_path / "data").rglob("*-train.tfrecord*"))
    data = shard.read_bytes()
    shard.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
    message = rf"{re.escape(str(shard))} is corrupt: example 66 of 66, at byte \d+, was changed"
    with pytest.raises(InputError, match=message):
        training.run_training(settings(tmp_path / "data", augment="none"), tmp_path / "run")


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
            "Model covid-cnn4 takes images of at least 32 x 32 pixels and 3 channels",
        ),
        (
            {"weights": "/nowhere/model.keras"},
            "--weights /nowhere/model.keras does not exist; expected none, imagenet or",
        ),
        ({"weights": "imagenet"}, "Model edge has no ImageNet weights; "),
        (
            {"class_weight": "1,2,3"},
            "class_weight='1,2,3' has 3 numbers; expected 2, one for each of NORMAL, PNEUMONIA.",
        ),
    ],
)
def test_refused_run_leaves_the_old_one_alone(run, built, tmp_path, change, message):
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    with pytest.raises(InputError) as caught:
        training.run_training(settings(built, **change), tmp_path)
    assert str(caught.value).startswith(message)
    assert_same_run(tmp_path, run)


def test_refuses_images_that_are_too_small(run, built, tmp_path):
    (tmp_path / "model.keras").write_bytes((run / "model.keras").read_bytes())
    with pytest.raises(
        InputError, match="at least 94 x 94 pixels and 1 channel; the dataset has 64 x 64 x 1"
    ):
        training.run_training(settings(built, model="xray-cnn5"), tmp_path)
    assert names(tmp_path) == ["model.keras"]


def test_refuses_a_dataset_with_other_examples(run, built):
    config = RunConfig.read(run)
    config.dataset["fingerprint"] = "0" * 64
    with pytest.raises(InputError, match="has other examples or settings than the run was trained"):
        open_run_dataset(config)
    config.settings["data_dir"] = "/nowhere"
    with pytest.raises(MissingData, match="is not built in /nowhere"):
        open_run_dataset(config)
    with pytest.raises(InputError, match="has other examples"):
        open_run_dataset(config, built)


@pytest.mark.parametrize(
    ("capabilities", "policy"),
    [([], "float32"), ([(8, 9)], "mixed_float16"), ([(7, 0), (6, 1)], "float32")],
)
def test_auto_precision_is_mixed_on_fast_gpus(capabilities, policy, monkeypatch):
    details = [{"compute_capability": capability} for capability in capabilities]
    config = training.tf.config
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: details)
    monkeypatch.setattr(config.experimental, "get_device_details", lambda gpu: gpu)
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


@pytest.fixture
def chosen(monkeypatch):
    """Replaces training and returns the arguments it got."""
    calls = []

    def run_training(settings, run, *, resume, devices, **_):
        calls.append((settings, run, resume, devices))
        return {"test": {}}

    monkeypatch.setattr(training, "run_training", run_training)
    return calls


def test_train_takes_a_dataset_or_its_name(built, tmp_path, chosen):
    dataset = open_dataset("chest_xray_pneumonia/64", built)
    named = {"dataset": dataset.name, "data_dir": str(built)}
    assert training.train(dataset, tmp_path / "run", epochs=3) == {"test": {}}
    assert chosen.pop()[:3] == (TrainSettings(**named, epochs=3), tmp_path / "run", False)
    training.train(dataset.targeted("finding"), str(tmp_path / "run"))
    assert chosen.pop()[0] == TrainSettings(**named, target="finding")
    training.train(dataset.name, tmp_path / "run", data_dir=built, cache_dir=tmp_path)
    assert chosen.pop()[0] == TrainSettings(**named, cache_dir=str(tmp_path))


def test_train_reads_source_files_as_the_dataset_does(built, tmp_path, chosen):
    dataset = open_dataset("chest_xray_pneumonia/64", built)
    encoded = dataclasses.replace(dataset, encoded=True).fitted(96, channels=3)
    training.train(encoded, tmp_path / "run")
    assert (chosen[0][0].size, chosen[0][0].channels) == (96, 3)
    with pytest.raises(InputError, match="is read with fit='pad', but training reads source"):
        training.train(encoded.fitted(96, fit="pad"), tmp_path / "run")


def test_train_refuses_a_full_folder_and_unknown_settings(built, tmp_path, chosen):
    dataset = open_dataset("chest_xray_pneumonia/64", built)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="exists and is not empty"):
        training.train(dataset, tmp_path)
    training.train(dataset, tmp_path, overwrite=True)
    training.train(dataset, tmp_path, resume=True)
    assert [resume for _, _, resume, _ in chosen] == [False, True]
    with pytest.raises(InputError, match=r"Unknown training setting: 'epoch' is not one of"):
        training.train(dataset, tmp_path / "run", epoch=3)


def test_evaluate_returns_the_metrics_of_a_split(run):
    stored = run_folder.read_metrics(run)
    assert finish.evaluate(run) == stored["test"]
    assert finish.evaluate(str(run), "validation") == stored["validation"]
