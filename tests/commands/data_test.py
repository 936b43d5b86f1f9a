"""Tests `cxr-data`: exit codes, output streams and a quick --help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cxr_tfds.commands.data import cli

SMALL = ["--train", "10", "--test", "12"]


def test_phantom_prints_counts_and_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "drawn"
    result = CliRunner().invoke(cli, ["phantom", "--out", str(out), *SMALL])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "split  NORMAL  PNEUMONIA",
        "train  4       6",
        "val    8       8",
        "test   5       7",
        str(out / "chest_xray"),
    ]
    assert "Drawing" in result.stderr
    assert len(list(out.glob("chest_xray/*/*/*.jpeg"))) == 38


@pytest.mark.slow
def test_phantom_depends_on_the_seed(tmp_path: Path) -> None:
    data = []
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        args = ["phantom", "--out", str(tmp_path / name), "--seed", seed, *SMALL]
        assert CliRunner().invoke(cli, args).exit_code == 0
        data.append([p.read_bytes() for p in sorted((tmp_path / name).rglob("*.jpeg"))])
    assert data[0] == data[1]
    assert not set(data[0]) & set(data[2])


def test_phantom_refuses_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    refused = CliRunner().invoke(cli, ["phantom", "--out", str(tmp_path), *SMALL])
    assert refused.exit_code == 1
    assert "is not empty" in refused.stderr
    assert "--overwrite" in refused.stderr
    foreign = CliRunner().invoke(cli, ["phantom", "--out", str(tmp_path), "--overwrite", *SMALL])
    assert foreign.exit_code == 1
    assert "contains no phantom.json" in foreign.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_phantom_overwrites_its_own_folder(tmp_path: Path) -> None:
    out = tmp_path / "drawn"
    first = CliRunner().invoke(cli, ["phantom", "--out", str(out), "--train", "30", "--test", "10"])
    assert first.exit_code == 0
    assert CliRunner().invoke(cli, ["phantom", "--out", str(out), *SMALL]).exit_code == 1
    assert len(list(out.rglob("*.jpeg"))) == 56
    assert (
        CliRunner().invoke(cli, ["phantom", "--out", str(out), "--overwrite", *SMALL]).exit_code
        == 0
    )
    assert len(list(out.rglob("*.jpeg"))) == 38


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["phantom"], "Missing option '--out'"),
        (["phantom", "--out", "x", "--train", "9"], "9 is not in the range 10<=x<=100000"),
        (["phantom", "--out", "x", "--test", "many"], "'many' is not a valid integer"),
        (["phantom", "--out", "x", "--seed", "-1"], "-1 is not in the range x>=0"),
        (["phantom", "--out", __file__], "is a file"),
        (["phanton"], "phanton"),
    ],
)
def test_wrong_usage_exits_with_2(
    args: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_unknown_command_suggests_the_nearest() -> None:
    result = CliRunner().invoke(cli, ["phanton"])
    assert "Did you mean 'phantom'?" in result.stderr


def test_help_shows_defaults_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from cxr_tfds.commands.data import cli\n"
        "cli(['phantom', '--help'], standalone_mode=False)\n"
        "heavy = {'numpy', 'PIL', 'tensorflow', 'keras'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())  # undoes the wrapping
    assert "[default: 1300;" in text
    assert "[default: 300;" in text
