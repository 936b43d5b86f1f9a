"""`cxr-train`: exit codes, exact texts, and that --help and wrong usage load no TensorFlow."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from cxr_tfds.commands.train import train
from cxr_tfds.models import list_models
from cxr_tfds.run_folder import FORMAT
from cxr_tfds.training import run as training
from cxr_tfds.training.recipes import RECIPES
from cxr_tfds.training.settings import TrainSettings

DATASET = "chest_xray_pneumonia/64"
HEAVY = ("tensorflow", "keras", "tensorflow_datasets", "numpy", "matplotlib", "PIL")
COMMANDS = {
    "cxr-train": "cxr_tfds.commands.train:train",
    "cxr-evaluate": "cxr_tfds.commands.evaluate:evaluate",
    "cxr-export": "cxr_tfds.export.command:export",
}


def invoke(*args):
    return CliRunner().invoke(train, [str(arg) for arg in args])


@pytest.fixture
def args(built, tmp_path):
    return ["--dataset", DATASET, "--data-dir", built, "--out", tmp_path / "run", "--epochs", 1, "--batch-size", 8]


@pytest.fixture
def no_training(monkeypatch):
    """Puts a stand-in for training, and gives the calls it got."""
    calls = []
    monkeypatch.setattr(training, "train", lambda settings, run, *, resume: calls.append((settings, run, resume)) or {})
    return calls


def test_trains_and_prints_the_figures_of_each_split(args, tmp_path):
    result = invoke(*args, "--augment", "none")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "validation:"
    assert "test:" in lines
    assert lines[-2:] == [f"run: {tmp_path / 'run'}", f"report: {tmp_path / 'run' / 'report.html'}"]
    test = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))["test"]
    assert f"{test['auc']['value']:.4f}" in result.stdout
    assert "epoch 1/1" in result.stderr  # progress


def test_settings_reach_the_training(args, built, tmp_path, no_training):
    more = ["--learning-rate", "0.01", "--seed", "7", "--precision", "mixed_bfloat16", "--cache", "none"]
    assert invoke(*args, *more).exit_code == 0
    ((settings, run, resume),) = no_training
    assert (settings.dataset, settings.data_dir) == (DATASET, str(built.resolve()))
    assert (settings.epochs, settings.batch_size, settings.learning_rate, settings.seed) == (1, 8, 0.01, 7)
    assert (settings.precision, settings.cache) == ("mixed_bfloat16", "none")
    assert (run, resume) == (tmp_path / "run", False)


@pytest.mark.parametrize(
    ("config", "more"),
    [
        ("224", ""),
        ("64", ' --config \'{"name": "64", "size": 64}\''),
        ("original", ' --config \'{"name": "original", "size": null}\''),
    ],
)
def test_a_dataset_that_is_not_built_is_answered_with_the_line_that_builds_it(tmp_path, config, more):
    data_dir = tmp_path / "data"
    result = invoke("--dataset", f"chest_xray_pneumonia/{config}", "--data-dir", data_dir, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: chest_xray_pneumonia/{config} is not built in {data_dir}. Build it with:\n"
        f"  tfds build chest_xray_pneumonia --imports cxr_tfds.builders --data_dir {data_dir} "
        f"--manual_dir FOLDER_OF_THE_IMAGES{more}\n"
    )
    assert not (tmp_path / "run").exists()


def test_the_building_line_quotes_a_folder_with_a_space(tmp_path):
    result = invoke("--dataset", DATASET, "--data-dir", tmp_path / "my data", "--out", tmp_path / "run")
    assert f"--data_dir '{tmp_path / 'my data'}' --manual_dir" in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--dataset", "chest_xray_pneumona/64", "'chest_xray_pneumona' is not one of 'chest_xray_pneumonia'"),
        ("--dataset", "chest_xray_pneumona/64", "Did you mean 'chest_xray_pneumonia'?"),
        ("--dataset", "Chest X-ray", "expected DATASET/CONFIG such as chest_xray_pneumonia/224."),
        ("--model", "egde", "'egde' is not one of 'edge', 'xray-cnn5', "),
        (
            "--precision",
            "float16",
            "'float32', 'mixed_float16', 'mixed_bfloat16'. Did you mean 'mixed_float16'?",
        ),
        ("--augment", "nome", "'nome' is not one of 'none', 'classic', 'default', 'strong'. Did you mean 'none'?"),
        ("--cache", "memory", "'memory' is not one of 'auto', 'ram', 'file', 'none'."),
        ("--epochs", "0", "0 is not in the range x>=1."),
        ("--target", "findings", "'findings' is not one of 'label', 'finding'. Did you mean 'finding'?"),
        ("--recipe", "edg", "'edg' is not one of 'edge', 'xray-cnn5', "),
        ("--class-weight", "1,x", "class_weight='1,x'; expected none, balanced, or a positive number for each class"),
        ("--threshold-rule", "best", "threshold_rule='best'; expected youden, "),
        ("--label-smoothing", "1", "1.0 is not in the range 0<=x<1."),
        ("--channels", "2", "'2' is not one of '1', '3'."),
        ("--batch-size", "0", "0 is not in the range x>=1."),
        ("--learning-rate", "0", "0.0 is not in the range 0<x<1."),
        ("--weight-decay", "1", "1.0 is not in the range 0<=x<1."),
        ("--seed", "-1", "-1 is not in the range 0<=x<=2147483647."),
    ],
)
def test_wrong_usage_names_the_choices(args, option, value, said, no_training, tmp_path):
    result = invoke(*args, option, value)
    assert result.exit_code == 2
    assert f"Invalid value for '{option}': " in result.stderr
    assert said in result.stderr
    assert not no_training
    assert not (tmp_path / "run").exists()


def test_resume_and_overwrite_together_are_wrong_usage(args):
    result = invoke(*args, "--resume", "--overwrite")
    assert result.exit_code == 2
    assert "--resume goes on with a run and --overwrite replaces it; give one of them." in result.stderr


def test_a_folder_that_holds_something_is_refused(args, tmp_path, no_training):
    out = tmp_path / "run"
    out.mkdir()
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    result = invoke(*args)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {out} exists and is not empty. Choose another folder, or give --overwrite to replace what "
        "stands there or --resume to go on.\n"
    )
    assert not no_training
    for option, resume in (("--overwrite", False), ("--resume", True)):
        assert invoke(*args, option).exit_code == 0
        assert no_training.pop()[2] == resume


def test_overwriting_leaves_foreign_files_alone(args, tmp_path, monkeypatch):
    def stop(*_args):
        raise training.InputError("far enough")

    monkeypatch.setattr(training, "_fit", stop)
    out = tmp_path / "run"
    (out / "checkpoint").mkdir(parents=True)
    for name in ("notes.txt", "model.keras", "report.html"):
        (out / name).write_text("x", encoding="utf-8")
    result = invoke(*args, "--overwrite")
    assert (result.exit_code, result.stderr) == (1, "Error: far enough\n")
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "notes.txt"]


def test_resuming_what_is_no_run_says_so(args, tmp_path):
    result = invoke(*args, "--resume")
    out = tmp_path / "run"
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {out} does not exist. Make one with: cxr-train --out {out}")


def test_a_file_as_folder_is_wrong_usage(args, tmp_path):
    (tmp_path / "run").write_text("x", encoding="utf-8")
    assert invoke(*args).exit_code == 2


def run_python(code, *args):
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], env=environment, capture_output=True, text=True, check=False
    )


_COMMAND = """
import importlib, sys
module, _, name = sys.argv.pop(1).partition(":")
command = getattr(importlib.import_module(module), name)
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_loads_nothing_heavy(name):
    code = f"""{_COMMAND}
try:
    command(prog_name={name!r})
finally:
    sys.stderr.write(",".join(set(sys.modules) & set({HEAVY!r})))
"""
    done = run_python(code, COMMANDS[name], "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: {name} [OPTIONS]")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("name", "module"),
    [*((name, "tensorflow") for name in COMMANDS), ("cxr-train", "tensorflow_datasets"), ("cxr-train", "jinja2")],
)
def test_a_missing_extra_is_named(name, module, built, tmp_path):
    run = tmp_path / "run"
    if name == "cxr-train":
        args = ["--dataset", DATASET, "--data-dir", built, "--out", run]
    else:
        run.mkdir()
        config = {
            "settings": {"data_dir": str(built)},
            "dataset": {"name": DATASET, "fingerprint": ""},
            "labels": ["NORMAL", "PNEUMONIA"],
            "shape": [64, 64, 1],
            "fit": "stretch",
            "precision": "float32",
            "environment": {},
            "format": FORMAT,
        }
        (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
        args = [run] if name == "cxr-evaluate" else [run, "--out", tmp_path / "out"]
    code = f"{_COMMAND}\nsys.modules[{module!r}] = None\ncommand(prog_name={name!r})"
    done = run_python(code, COMMANDS[name], *args)
    assert done.returncode == 1
    expected = (
        f"Error: {name} needs {module}, which is not installed here. Install it with: pip install 'cxr-tfds[train]'\n"
    )
    assert done.stderr.endswith(expected), done.stderr
    assert "Traceback" not in done.stderr


def test_resume_takes_the_settings_of_the_run(built, no_training, tmp_path):
    from cxr_tfds.run_folder import RunConfig

    out = tmp_path / "run"
    out.mkdir()
    settings = TrainSettings(dataset="chest_xray_pneumonia/64", data_dir=str(built), epochs=7, batch_size=5)
    RunConfig(
        settings=dataclasses.asdict(settings),
        dataset={"name": "a", "fingerprint": "b"},
        labels=("NORMAL", "PNEUMONIA"),
        shape=(64, 64, 1),
        fit="stretch",
        precision="float32",
        environment={},
    ).write(out)
    assert invoke("--out", out, "--resume").exit_code == 0
    assert no_training.pop()[0] == settings


def test_neither_dataset_nor_resume(tmp_path):
    result = invoke("--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "Missing option '--dataset'." in result.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_says_how_to_go_on(args, tmp_path, monkeypatch, how):
    def stop(*_, **__):
        os.kill(os.getpid(), how)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(training, "train", stop)
    result = invoke(*args)
    assert result.exit_code == 1
    assert (
        f"stopped. Go on from the last finished epoch with: cxr-train --out {tmp_path / 'run'} --resume"
        in result.stderr
    )
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_recipe_gives_the_settings_that_are_not_given(built, tmp_path, no_training):
    named = ["--data-dir", built, "--out", tmp_path / "run", "--recipe", "xray-cnn5", "--epochs", 3]
    assert invoke("--dataset", DATASET, *named).exit_code == 0
    chosen = no_training.pop()[0]
    recipe = RECIPES["xray-cnn5"]
    assert chosen.model == "xray-cnn5"
    assert {name: getattr(chosen, name) for name in recipe.settings} == recipe.settings | {"epochs": 3}
    assert (chosen.size, chosen.channels) == (None, None)
    original = ["--dataset", "chest_xray_pneumonia/original", *named]
    assert invoke(*original).exit_code == 0
    chosen = no_training.pop()[0]
    assert (chosen.size, chosen.channels) == (500, 1)
    assert invoke(*original, "--size", 200, "--channels", 3, "--model", "edge").exit_code == 0
    chosen = no_training.pop()[0]
    assert (chosen.size, chosen.channels, chosen.model, chosen.batch_size) == (200, 3, "edge", 16)


def test_a_recipe_whose_images_the_dataset_has_not(args):
    result = invoke(*args, "--recipe", "xray-cnn5")
    assert result.exit_code == 1
    assert "model xray-cnn5 takes images of at least 94 x 94 pixels" in result.stderr
    assert "Build one that fits with: tfds build" in result.stderr


def test_list_models():
    result = CliRunner().invoke(train, ["--list-models"])
    assert result.exit_code == 0
    assert result.stdout == list_models() + "\n"


def test_other_machines_leave_the_folder_to_the_chief(args, tmp_path, monkeypatch, no_training):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}", encoding="utf-8")
    cluster = {"worker": ["localhost:1", "localhost:2"]}
    for index, code in ((0, 1), (1, 0)):
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}))
        result = invoke(*args)
        assert result.exit_code == code, result.output
        assert result.stdout == ""
