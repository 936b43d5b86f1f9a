"""`cxr-evaluate`: exit codes, exact texts, and what it writes."""

import dataclasses
import json
import shutil

import pytest
from click.testing import CliRunner

from cxr_tfds import run_folder
from cxr_tfds.commands.evaluate import evaluate
from cxr_tfds.datasets import DatasetName, open_dataset
from cxr_tfds.models import build_model
from cxr_tfds.run_folder import RunConfig


@pytest.fixture(scope="module")
def finished(built, tmp_path_factory):
    """A run folder with a model that has learned nothing."""
    dataset = open_dataset(DatasetName.parse("chest_xray_pneumonia/64"), built)
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    RunConfig(
        settings={"dataset": "chest_xray_pneumonia/64", "data_dir": str(built), "model": "edge"},
        dataset={"name": dataset.name, "fingerprint": dataset.fingerprint},
        labels=dataset.labels,
        shape=dataset.shape,
        fit=dataset.fit,
        precision="float32",
        environment={},
        threshold=0.5,
    ).write(folder)
    run_folder.save_model(build_model("edge", dataset.shape, 2), folder)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def invoke(*args):
    return CliRunner().invoke(evaluate, [str(arg) for arg in args])


def test_prints_the_figures_and_stores_them(run):
    result = invoke(run)
    assert result.exit_code == 0, result.output
    test = run_folder.read_metrics(run)["test"]
    lines = result.stdout.splitlines()
    assert lines[0] == "test:"
    assert any(line.split()[:2] == ["auc", f"{test['auc']['value']:.4f}"] for line in lines)
    assert lines[-1].split() == ["images", "40"]


def test_measuring_one_split_keeps_the_figures_of_the_others(run):
    run_folder.write_json(run / "metrics.json", {"test": {"images": 1}})
    result = invoke(run, "--split", "validation", "--json")
    assert result.exit_code == 0, result.output
    measured = run_folder.read_metrics(run)
    assert measured["test"] == {"images": 1}
    assert json.loads(result.stdout) == measured["validation"]
    assert set(measured["validation"]["auc"]) == {"value", "low", "high"}


def test_a_dataset_that_moved_is_found_with_data_dir(run, built):
    config = RunConfig.read(run)
    dataclasses.replace(config, settings={**config.settings, "data_dir": "/nowhere"}).write(run)
    result = invoke(run)
    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"Error: {config.dataset['name']} is not built in /nowhere. Build it with:\n  tfds build chest_xray_pneumonia "
    )
    assert invoke(run, "--data-dir", built).exit_code == 0


def test_a_dataset_with_other_examples_is_refused(run, built):
    config = RunConfig.read(run)
    dataclasses.replace(config, dataset={**config.dataset, "fingerprint": "0" * 64}).write(run)
    result = invoke(run)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {config.dataset['name']} in {built} holds other examples than the run was trained on. "
        "Train again, or point --data-dir to the dataset of the run.\n"
    )


def test_an_unknown_split_is_wrong_usage(run):
    result = invoke(run, "--split", "val")
    assert result.exit_code == 2
    assert "'val' is not one of 'train', 'validation', 'test'. Did you mean 'validation'?" in result.stderr


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_that_is_no_run_says_so(tmp_path, made):
    folder = tmp_path / "folder"
    if made:
        folder.mkdir()
    result = invoke(folder)
    assert result.exit_code == 1
    what = "is not a run folder (no config.json)" if made else "does not exist"
    assert result.stderr == f"Error: {folder} {what}. Make one with: cxr-train --out {folder} …\n"


def test_an_unfinished_run_says_how_to_go_on(run):
    (run / "model.keras").unlink()
    result = invoke(run)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {run / 'model.keras'} does not exist: the run did not finish. "
        f"Go on with: cxr-train --out {run} --resume\n"
    )


@pytest.mark.parametrize("name", ["config.json", "model.keras", "metrics.json"])
def test_a_damaged_file_of_the_run_is_named(run, name):
    (run / name).write_bytes(b"{")
    result = invoke(run)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {run / name} ")


def test_a_damaged_shard_is_named(run, built, tmp_path):
    shutil.copytree(built, tmp_path / "data")
    shard = next((tmp_path / "data").rglob("*-test.tfrecord*"))
    data = shard.read_bytes()
    shard.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
    result = invoke(run, "--data-dir", tmp_path / "data")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {shard} is damaged: example 40 of 40 is not as it was written. ")


def test_a_missing_shard_is_named(run, built, tmp_path):
    shutil.copytree(built, tmp_path / "data")
    shard = next((tmp_path / "data").rglob("*-test.tfrecord*"))
    shard.unlink()
    result = invoke(run, "--data-dir", tmp_path / "data")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"Error: {shard} is missing. Remove {shard.parent} and build it again:\n  tfds build "
    )


def test_a_damaged_dataset_description_is_named(run, built, tmp_path):
    shutil.copytree(built, tmp_path / "data")
    description = next((tmp_path / "data").rglob("dataset_info.json"))
    description.write_text("{", encoding="utf-8")
    result = invoke(run, "--data-dir", tmp_path / "data")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {description.parent} cannot be read")
