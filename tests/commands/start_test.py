"""The start of commands: --help loads no TensorFlow, and a missing extra is reported."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.run_folder import FORMAT
from cxr_tfds.training.settings import TrainSettings

DATASET = "chest_xray_pneumonia/64"
HEAVY = ("tensorflow", "keras", "tensorflow_datasets", "numpy", "matplotlib", "PIL")
COMMANDS = {
    "cxr-train": "cxr_tfds.commands.train:train",
    "cxr-evaluate": "cxr_tfds.commands.evaluate:evaluate",
    "cxr-export": "cxr_tfds.export.command:export",
}
DATA = "cxr_tfds.commands.data:cli"


def run_python(code, *args):
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
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
    ("name", "args"),
    [
        ("cxr-train", ("--dataset", DATASET, "--data-dir", "nowhere", "--out", "run")),
        ("cxr-train", ("--out", "nowhere", "--resume")),
        ("cxr-evaluate", ("nowhere",)),
        ("cxr-export", ("nowhere", "--out", "out")),
        ("cxr-data", ("export", DATASET, "--data-dir", "nowhere", "--to", "folder", "--out", "f")),
    ],
)
def test_reports_what_is_missing_before_it_loads_tensorflow(name, args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = f"""{_COMMAND}
try:
    command(prog_name={name!r})
finally:
    assert "tensorflow" not in sys.modules
"""
    done = run_python(code, (COMMANDS | {"cxr-data": DATA})[name], *args)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert "nowhere" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "module"),
    [
        *((name, "tensorflow") for name in COMMANDS),
        ("cxr-train", "jinja2"),
    ],
)
def test_reports_a_missing_extra(name, module, built, tmp_path):
    run = tmp_path / "run"
    if name == "cxr-train":
        args = ["--dataset", DATASET, "--data-dir", built, "--out", run]
    else:
        run.mkdir()
        config = {
            "settings": dataclasses.asdict(TrainSettings(dataset=DATASET, data_dir=str(built))),
            "dataset": {
                "name": DATASET,
                "fingerprint": open_dataset(DATASET, built).fingerprint,
            },
            "labels": ["NORMAL", "PNEUMONIA"],
            "task": "binary",
            "temperature": 1.0,
            "threshold": 0.5,
            "not_fitted": [],
            "grey_levels": {},
            "shape": [64, 64, 1],
            "fit": "stretch",
            "precision": "float32",
            "environment": {},
            "format": FORMAT,
        }
        (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
        (run / "model.keras").touch()
        args = [run] if name == "cxr-evaluate" else [run, "--out", tmp_path / "out"]
    code = f"{_COMMAND}\nsys.modules[{module!r}] = None\ncommand(prog_name={name!r})"
    done = run_python(code, COMMANDS[name], *args)
    assert done.returncode == 1
    expected = (
        f"Error: {name} needs {module}, which is not installed. "
        "Install it with: pip install 'cxr-tfds[train]'\n"
    )
    assert done.stderr.endswith(expected), done.stderr
    assert "Traceback" not in done.stderr
