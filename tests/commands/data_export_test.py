"""Tests `cxr-data export`: exit codes and output streams."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cxr_tfds.commands.data import cli

DATASET = "chest_xray_pneumonia/64"


def export(
    built: Path, out: Path, *args: str, dataset: str = DATASET, to: str = "folder"
) -> Result:
    options = ["--to", to, "--data-dir", str(built), "--out", str(out), *args]
    return CliRunner().invoke(cli, ["export", dataset, *options])


@pytest.mark.slow
def test_prints_counts_and_the_folder(built: Path, tmp_path: Path) -> None:
    result = export(built, tmp_path / "out")
    assert result.exit_code == 0, result.output
    header, *rows, folder = result.stdout.splitlines()
    assert header.split() == ["split", "NORMAL", "PNEUMONIA"]
    for row in rows:
        split, normal, pneumonia = row.split()
        for name, count in (("NORMAL", normal), ("PNEUMONIA", pneumonia)):
            assert len(list((tmp_path / "out" / split / name).iterdir())) == int(count)
    assert len(rows) == 3
    assert folder == str(tmp_path / "out")
    assert "Exporting" in result.stderr
    refused = export(built, tmp_path / "out")
    assert refused.exit_code == 1
    assert "is not empty" in refused.stderr
    assert export(built, tmp_path / "out", "--overwrite", to="parquet").exit_code == 0


def test_json(built: Path, tmp_path: Path) -> None:
    result = export(built, tmp_path / "out", "--json", to="webdataset")
    printed = json.loads(result.stdout)
    assert printed["dataset"] == "chest_xray_pneumonia/64:1.0.0"
    assert sum(sum(row.values()) for row in printed["images"].values()) == 116


@pytest.mark.parametrize(
    ("dataset", "args", "message"),
    [
        ("chest_xray", [], "Did you mean 'chest_xray_pneumonia'"),
        ("Chest/64", [], "Invalid dataset name"),
        (DATASET, ["--to", "parket"], "Did you mean 'parquet'"),
        (DATASET, ["--file-size", "0"], "0 is not in the range"),
        (DATASET, ["--file-size", "9"], "--file-size does not apply to --to folder"),
        (DATASET, ["--out", __file__], "is a file"),
    ],
)
def test_wrong_usage_exits_with_2(
    dataset: str, args: list[str], message: str, built: Path, tmp_path: Path
) -> None:
    result = export(built, tmp_path / "out", *args, dataset=dataset)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_dataset_that_is_not_built(built: Path, tmp_path: Path) -> None:
    result = export(built, tmp_path / "out", dataset="covid_ct/512")
    assert result.exit_code == 1
    assert "covid_ct/512 is not built" in result.stderr
    assert "cxr-data build FOLDER" in result.stderr


def test_a_missing_library_names_its_extra(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "cxr_tfds.conversion.arrayrecord", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "array_record"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "array_record", None)
    result = export(built, tmp_path / "out", to="arrayrecord")
    assert result.exit_code == 1
    assert "needs array_record, which is not installed" in result.stderr
    assert "pip install 'cxr-tfds[arrayrecord]'" in result.stderr
    assert not (tmp_path / "out").exists()
