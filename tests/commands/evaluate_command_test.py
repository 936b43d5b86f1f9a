"""`cxr-evaluate`: exit codes, messages, and the files it writes."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.json_files import METRICS, STRESS
from helpers.runs import config_of
from helpers.tampering import age_fingerprint

from cxr_tfds import run_folder
from cxr_tfds.commands.evaluate import evaluate
from cxr_tfds.files import write_json
from cxr_tfds.models import build_model
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.names import DatasetName
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.training import finish


@pytest.fixture(scope="module")
def finished(built, tmp_path_factory):
    """Returns a run folder with an untrained model."""
    dataset = open_dataset(DatasetName.parse("chest_xray_pneumonia/64"), built)
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    config_of(dataset, model="edge").write(folder)
    run_folder.save_model(build_model("edge", dataset.shape, 1), folder)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def invoke(*args):
    return CliRunner().invoke(evaluate, [str(arg) for arg in args])


@pytest.mark.slow
def test_prints_and_stores_the_metrics(run):
    result = invoke(run)
    assert result.exit_code == 0, result.output
    test = run_folder.read_metrics(run)["test"]
    lines = result.stdout.splitlines()
    assert lines[0] == "test:"
    assert any(line.split()[:2] == ["auc", f"{test['auc']['value']:.4f}"] for line in lines)
    assert lines[-1].split() == ["images", "40"]


def test_keeps_the_metrics_of_other_splits(run, monkeypatch):
    """Including those that another process writes while this one scores."""
    train, test = METRICS | {"images": 2}, METRICS | {"images": 1}
    write_json(run / "metrics.json", {"train": train})
    score = finish.score_and_sample

    def meanwhile(*args):
        write_json(run / "metrics.json", {"train": train, "test": test})
        write_json(run / "stress.json", {"test": STRESS})
        return score(*args)

    monkeypatch.setattr(finish, "score_and_sample", meanwhile)
    result = invoke(run, "--split", "validation", "--json")
    assert result.exit_code == 0, result.output
    measured = run_folder.read_metrics(run)
    assert (measured["train"], measured["test"]) == (train, test)
    assert run_folder.read_metrics(run, "stress.json") == {"test": STRESS}
    assert json.loads(result.stdout) == measured["validation"]
    assert set(measured["validation"]["auc"]) == {"value", "low", "high"}


@pytest.mark.slow
def test_prints_every_metric_with_its_interval(run):
    lines = invoke(run).stdout.splitlines()
    test = run_folder.read_metrics(run)["test"]
    without_class = [re.sub(r"^(  \w+) \((NORMAL|PNEUMONIA)\)", r"\1", line) for line in lines[1:]]
    printed = {tuple(line.split(" (")[0].split()[:2]): line for line in without_class}
    assert {"  sensitivity (PNEUMONIA)", "  specificity (NORMAL)", "  threshold (PNEUMONIA)"} <= {
        line[: line.index(")") + 1] for line in lines[1:] if ")" in line
    }
    for name, metric in test.items():
        if isinstance(metric, dict) and "low" in metric and metric["value"] is not None:
            value = f"{metric['value']:.4f}"
            interval = f"(95% CI {metric['low']:.4f} to {metric['high']:.4f})"
            assert printed[name, value].endswith(f"{value} {interval}"), name
    for kind in ("bacteria", "virus"):
        of_kind = test["findings"][kind]
        row = next(line for line in lines if line.startswith(f"  sensitivity to {kind}"))
        assert f"{of_kind['sensitivity']['value']:.4f}" in row
        assert row.endswith(f", {of_kind['images']} images")


@pytest.mark.slow
def test_stress_prints_a_table_and_a_verdict(run):
    result = invoke(run, "--stress")
    assert result.exit_code == 0, result.output
    (stressed,) = run_folder.read_metrics(run, "stress.json").values()
    assert result.stdout.rstrip().endswith(stressed["verdict"])
    for row in stressed["rows"]:
        cells = rf"^{row['condition']} +{row['strength']} .*{re.escape(row['written'])}$"
        assert re.search(cells, result.stdout, flags=re.MULTILINE)
    assert {row["strength"] for row in stressed["rows"]} == {"mild", "moderate", "severe"}
    assert "stress test: changed images (1,200 images)\n" in result.stderr  # 40 x 10 x 3
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "cxr-evaluate" not in page  # no measurement is missing
    assert page.count(">severe</span>") == 10
    assert (run / "MODEL_CARD.md").is_file()
    assert (run / "pictures" / "stress.png").is_file()
    again = invoke(run, "--json")
    assert json.loads(again.stdout) == run_folder.read_metrics(run)["test"]
    assert (run / "report.html").read_text(
        encoding="utf-8"
    ) == page  # the earlier stress metrics are kept


@pytest.mark.slow
def test_stress_of_another_split_does_not_change_the_report(run):
    result = invoke(run, "--stress", "--split", "validation", "--json")
    assert result.exit_code == 0, result.output
    assert list(run_folder.read_metrics(run, "stress.json")) == ["validation"]
    assert (
        json.loads(result.stdout)["stress"]
        == run_folder.read_metrics(run, "stress.json")["validation"]
    )
    assert not (run / "report.html").exists()


def remove_split(data_dir, split):
    """Removes a split from a dataset; returns its fingerprint, as of an earlier version."""
    dataset = open_dataset("chest_xray_pneumonia/64", data_dir)
    age_fingerprint(dataset)
    (description,) = data_dir.rglob("dataset_info.json")
    content = json.loads(description.read_text(encoding="utf-8"))
    content["splits"] = [each for each in content["splits"] if each["name"] != split]
    description.write_text(json.dumps(content), encoding="utf-8")
    for shard in dataset.shards[split]:
        Path(shard).unlink()
    return open_dataset("chest_xray_pneumonia/64", data_dir).fingerprint


@pytest.mark.slow
def test_refuses_a_missing_split(run, built, tmp_path):
    fingerprint = remove_split(shutil.copytree(built, tmp_path / "data"), "test")
    config = RunConfig.read(run)
    dataset = config.dataset | {"fingerprint": fingerprint}
    dataclasses.replace(config, dataset=dataset).write(run)
    result = invoke(run, "--data-dir", tmp_path / "data")
    assert result.exit_code == 1
    assert "has no split 'test'; it has train (" in result.stderr
    assert not (run / "metrics.json").exists()
    validation = invoke(run, "--data-dir", tmp_path / "data", "--split", "validation")
    assert validation.exit_code == 0, validation.output
    page = (run / "report.html").read_text(
        encoding="utf-8"
    )  # without a test split it is about validation
    assert "Measured on the validation split" in page
    assert "There is no test split" in page


def test_refuses_a_run_of_another_version(run):
    content = json.loads((run / "config.json").read_text(encoding="utf-8"))
    (run / "config.json").write_text(json.dumps({**content, "format": 1}), encoding="utf-8")
    result = invoke(run)
    assert result.exit_code == 1
    assert (
        result.stderr
        == f"Error: {run / 'config.json'} has format 1; this version of cxr-tfds reads format 2. "
        "Train again, or install the version that wrote the file.\n"
    )


@pytest.mark.slow
def test_data_dir_finds_a_moved_dataset(run, built):
    config = RunConfig.read(run)
    dataclasses.replace(config, settings={**config.settings, "data_dir": "/nowhere"}).write(run)
    result = invoke(run)
    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"Error: {config.dataset['name']} is not built in /nowhere. Build it with:\n"
        "  cxr-data build FOLDER_OF_THE_IMAGES --dataset chest_xray_pneumonia "
    )
    assert invoke(run, "--data-dir", built).exit_code == 0


def test_refuses_a_dataset_with_other_examples(run, built):
    config = RunConfig.read(run)
    dataclasses.replace(config, dataset={**config.dataset, "fingerprint": "0" * 64}).write(run)
    result = invoke(run)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {config.dataset['name']} in {built} has other examples or settings than the run "
        "was trained on. Train again, or use --data-dir to name the folder of the original "
        "dataset.\n"
    )


def test_suggests_the_nearest_split(run):
    result = invoke(run, "--split", "val")
    assert result.exit_code == 2
    assert (
        "'val' is not one of 'train', 'validation', 'test'. Did you mean 'validation'?"
        in result.stderr
    )


@pytest.mark.parametrize("made", [True, False])
def test_refuses_a_folder_that_is_not_a_run(tmp_path, made):
    folder = tmp_path / "folder"
    if made:
        folder.mkdir()
    result = invoke(folder)
    assert result.exit_code == 1
    what = "is not a run folder (no config.json)" if made else "does not exist"
    assert (
        result.stderr
        == f"Error: {folder} {what}. Make a run folder with: cxr-train --out {folder} …\n"
    )


def test_refuses_an_unfinished_run(run):
    (run / "model.keras").unlink()
    result = invoke(run)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {run / 'model.keras'} does not exist because the run is not finished. "
        f"Continue it with: cxr-train --out {run} --resume\n"
    )


@pytest.mark.parametrize("name", ["config.json", "model.keras", "metrics.json", "stress.json"])
def test_names_a_corrupt_file(run, name):
    (run / name).write_bytes(b"{")
    result = invoke(run)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {run / name} ")


def test_names_a_corrupt_shard(run, built, tmp_path):
    shutil.copytree(built, tmp_path / "data")
    shard = next((tmp_path / "data").rglob("*-test.tfrecord*"))
    data = shard.read_bytes()
    shard.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
    result = invoke(run, "--data-dir", tmp_path / "data")
    assert result.exit_code == 1
    assert f"\nError: {shard} is corrupt: example 40 of 40, at byte " in result.stderr


def test_names_a_missing_shard(run, built, tmp_path):
    shutil.copytree(built, tmp_path / "data")
    shard = next((tmp_path / "data").rglob("*-test.tfrecord*"))
    shard.unlink()
    result = invoke(run, "--data-dir", tmp_path / "data")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"Error: {shard} is missing. Remove {shard.parent} and build it again:\n  cxr-data build "
    )


def test_names_a_corrupt_description(run, built, tmp_path):
    shutil.copytree(built, tmp_path / "data")
    description = next((tmp_path / "data").rglob("dataset_info.json"))
    description.write_text("{", encoding="utf-8")
    result = invoke(run, "--data-dir", tmp_path / "data")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: Cannot read {description.parent} as a dataset: ")
