"""Tests `tfds build` as a process: errors without traceback, `--overwrite` without loss.

The `test_tfds_upgrade_…` tests fail if a new TFDS parses its command line or handles errors
differently; then `cxr_tfds.building.tfds_command` must follow.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from helpers.sources import tfds_build

from cxr_tfds.building import tfds_command
from cxr_tfds.building.tfds_command import overwrite_requested
from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.names import DatasetName

pytestmark = pytest.mark.slow

CONFIG = '{"name": "64", "size": 64}'


def run_build(*args: str | Path, cwd: Path) -> str:
    """Runs a build that fails and returns what it prints after the log lines."""
    command = ("chest_xray_pneumonia", "--imports", "cxr_tfds.builders", "--data_dir", cwd / "data")
    done = tfds_build(*command, *args, cwd=cwd)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"size": 8,}', "Error: --config '{\"size\": 8,}' is not a JSON object: "),
        ('{"name": "x", "size": 0}', "Error: size=0; expected a whole number of pixels"),
        ("512", "Error: chest_xray_pneumonia lists no config '512'. Give its settings:\n"),
    ],
)
def test_tfds_upgrade_prints_errors_without_traceback(
    config: str, message: str, tmp_path: Path
) -> None:
    assert message in run_build("--config", config, cwd=tmp_path)


@pytest.mark.parametrize("option", ["--overwrite", "--overw"])
def test_tfds_upgrade_overwrite_keeps_the_dataset_of_a_failed_build(
    option: str, built: Path, tmp_path: Path
) -> None:
    shutil.copytree(built, tmp_path / "data")
    source = tmp_path / "empty"
    source.mkdir()
    output = run_build(option, "--config", CONFIG, "--manual_dir", source, cwd=tmp_path)
    assert "Error: No radiographs in" in output
    name = DatasetName("chest_xray_pneumonia", "64")
    datasets = [open_dataset(name, data_dir) for data_dir in (tmp_path / "data", built)]
    assert datasets[0].fingerprint == datasets[1].fingerprint


@pytest.mark.parametrize(
    ("argv", "requested"),
    [
        (["tfds", "build", "--overwrite"], True),
        (["tfds", "build", "--ov"], True),
        (["tfds", "build", "overwrite"], False),
    ],
)
def test_reads_overwrite_from_the_command_line(
    argv: list[str], requested: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert not overwrite_requested()  # this process is not an absl command
    monkeypatch.setattr(tfds_command, "is_absl_command", lambda: True)
    assert overwrite_requested() == requested


def test_handles_only_errors_of_users() -> None:
    handler = tfds_command._PlainErrors()
    assert handler.wants(InputError("x"))
    assert handler.wants(json.JSONDecodeError("x", "{", 0))
    assert not handler.wants(ValueError("x"))
