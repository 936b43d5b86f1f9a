"""`cxr-data build` as users call it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from helpers.sources import draw_image

from cxr_tfds.commands.data import cli
from cxr_tfds.reading.datasets import open_dataset


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders without a name that sounds negative. Read-only."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("A", "B"):
        for number in range(12):
            draw_image(folder / name / f"{name}-{number}.png")
    return folder


def build(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, ["build", *map(str, args)])


def test_builds_with_settings(source: Path, tmp_path: Path) -> None:
    result = build(source, "--data-dir", tmp_path, "--set", "size=32", "--set", "negative=B")
    assert result.exit_code == 0, result.output
    assert "Building as xray_folder: class folders: B, A\n" in result.stderr
    assert result.stdout.splitlines()[0].split() == ["split", "images", "B", "A"]
    assert f"cxr-train --dataset xray_folder/32-negative-B --data-dir {tmp_path}" in result.stdout
    assert open_dataset("xray_folder/32-negative-B", tmp_path).labels == ("B", "A")


def test_prints_json(source: Path, tmp_path: Path) -> None:
    config = '{"size": 32, "negative": "B"}'
    result = build(source, "--data-dir", tmp_path, "--config", config, "--json")
    printed = json.loads(result.stdout)
    assert printed["dataset"] == "xray_folder/32-negative-B"
    assert printed["is_new"] is True
    assert printed["report"]["splits"]["train"]["classes"] == {"B": 9, "A": 9}
    assert Path(printed["folder"]) == tmp_path / "xray_folder" / "32-negative-B" / "1.0.0"


@pytest.mark.parametrize(
    ("args", "exit_code", "message"),
    [
        ([], 1, "negative class"),
        (["--set", "negative"], 2, "'negative'; expected NAME=VALUE, such as negative=Clear."),
        (["--set", "=B"], 2, "expected NAME=VALUE"),
        (["--set", "negativ=B", "--dataset", "xray_folder"], 1, "Did you mean 'negative'?"),
        (["--dataset", "xray_folders"], 2, "Did you mean 'xray_folder'?"),
        (["--config", "{negative"], 1, "is not a JSON object"),
        (["--set", "negative=C"], 1, "'C' is not one of the classes A, B"),
    ],
)
def test_refuses(
    args: list[str], exit_code: int, message: str, source: Path, tmp_path: Path
) -> None:
    result = build(source, "--data-dir", tmp_path, *args)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert message in result.stderr
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.slow
def test_shows_nothing_of_tfds(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from cxr_tfds.commands.data import cli; cli()", "build"]
    options = [source, "--data-dir", tmp_path, "--set", "negative=A", "--set", "size=32"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "Building as xray_folder: class folders: A, B",
        "Loading TensorFlow …",
        "Building (24 images)",
    ]
    assert len(done.stdout.splitlines()) <= 12


def test_loads_no_tensorflow_if_already_built(source: Path, tmp_path: Path) -> None:
    options = ["--data-dir", tmp_path, "--set", "negative=A", "--set", "size=32"]
    assert build(source, *options).exit_code == 0
    code = """
import sys
from cxr_tfds.commands.data import cli
try:
    cli()
finally:
    print("tensorflow" in sys.modules)
"""
    command = [sys.executable, "-c", code, "build", source, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == "Building as xray_folder: class folders: A, B\n"
    assert f"Already built: {tmp_path}" in done.stdout
    assert done.stdout.endswith("\nFalse\n")
