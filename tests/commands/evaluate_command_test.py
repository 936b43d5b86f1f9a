"""`cxr-evaluate`: exit codes, exact texts, and what it writes."""

import dataclasses
import json
import shutil

import pytest
from click.testing import CliRunner

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


def test_measuring_one_split_keeps_the_figures_of_the_others(run, monkeypatch):
    """Those of another process, too, that come while this one scores."""
    write_json(run / "metrics.json", {"train": {"images": 2}})
    score = finish.score_and_sample

    def meanwhile(*args):
        write_json(run / "metrics.json", {"train": {"images": 2}, "test": {"images": 1}})
        write_json(run / "stress.json", {"test": {"images": 1}})
        return score(*args)

    monkeypatch.setattr(finish, "score_and_sample", meanwhile)
    result = invoke(run, "--split", "validation", "--json")
    assert result.exit_code == 0, result.output
    measured = run_folder.read_metrics(run)
    assert (measured["train"], measured["test"]) == ({"images": 2}, {"images": 1})
    assert run_folder.read_metrics(run, "stress.json") == {"test": {"images": 1}}
    assert json.loads(result.stdout) == measured["validation"]
    assert set(measured["validation"]["auc"]) == {"value", "low", "high"}


def test_every_metric_is_shown_with_its_interval(run):
    lines = invoke(run).stdout.splitlines()
    test = run_folder.read_metrics(run)["test"]
    shown = {line.split()[0]: line for line in lines[1:]}
    for name, figure in test.items():
        if isinstance(figure, dict) and "low" in figure and figure["value"] is not None:
            interval = f"{figure['value']:.4f}  (95 % {figure['low']:.4f} to {figure['high']:.4f})"
            assert interval in shown[name], name
    for kind in ("bacteria", "virus"):
        of_kind = test["findings"][kind]
        row = next(line for line in lines if line.startswith(f"  found of {kind}"))
        assert f"{of_kind['sensitivity']['value']:.4f}" in row
        assert row.endswith(f"of {of_kind['images']} images")


def test_stress_prints_a_table_and_what_the_model_leans_on(run):
    result = invoke(run, "--stress")
    assert result.exit_code == 0, result.output
    (stressed,) = run_folder.read_metrics(run, "stress.json").values()
    assert result.stdout.rstrip().endswith(stressed["verdict"])
    for row in stressed["rows"]:
        assert f"{row['condition']:<17} {row['strength']:<8} {row['written']}" in result.stdout
    assert {row["strength"] for row in stressed["rows"]} == {"mild", "moderate", "severe"}
    assert "stress 1 of 10: JPEG quality" in result.stderr
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "cxr-evaluate" not in page  # nothing is left to be measured
    assert page.count(">severe</span>") == 10
    assert (run / "MODEL_CARD.md").is_file()
    assert (run / "pictures" / "stress.png").is_file()
    again = invoke(run, "--json")
    assert json.loads(again.stdout) == run_folder.read_metrics(run)["test"]
    assert (run / "report.html").read_text(
        encoding="utf-8"
    ) == page  # what was measured before is kept


def test_stress_of_another_split_leaves_the_report_alone(run):
    result = invoke(run, "--stress", "--split", "validation", "--json")
    assert result.exit_code == 0, result.output
    assert list(run_folder.read_metrics(run, "stress.json")) == ["validation"]
    assert (
        json.loads(result.stdout)["stress"]
        == run_folder.read_metrics(run, "stress.json")["validation"]
    )
    assert not (run / "report.html").exists()


def without(data_dir, split):
    """Takes a split out of the dataset's description."""
    (description,) = data_dir.rglob("dataset_info.json")
    content = json.loads(description.read_text(encoding="utf-8"))
    content["splits"] = [each for each in content["splits"] if each["name"] != split]
    description.write_text(json.dumps(content), encoding="utf-8")


def test_a_split_that_does_not_exist_is_named(run, built, tmp_path):
    without(shutil.copytree(built, tmp_path / "data"), "test")
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


def test_a_run_of_another_version_is_refused(run):
    content = json.loads((run / "config.json").read_text(encoding="utf-8"))
    (run / "config.json").write_text(json.dumps({**content, "format": 1}), encoding="utf-8")
    result = invoke(run)
    assert result.exit_code == 1
    assert (
        result.stderr
        == f"Error: {run / 'config.json'} has format 1; this version reads 2. Train the run again.\n"
    )


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
    assert (
        "'val' is not one of 'train', 'validation', 'test'. Did you mean 'validation'?"
        in result.stderr
    )


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


@pytest.mark.parametrize("name", ["config.json", "model.keras", "metrics.json", "stress.json"])
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
    assert result.stderr.startswith(f"Error: {shard} is damaged: example 40 of 40, at byte ")


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
