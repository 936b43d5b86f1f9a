"""Rows of predictions for people, on a terminal and in a file."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cxr_tfds.export.edge.command import cli
from cxr_tfds.export.edge.model_file import ModelInfo, append_model_info
from cxr_tfds.export.edge.output import format_text
from cxr_tfds.export.edge.prediction import Prediction
from cxr_tfds.sources.origin import DRAWN, describe_origin

LABELS = ("NORMAL", "PNEUMONIA")
POSITIVE = Prediction(0.9, "PNEUMONIA", 0.5, {"NORMAL": 0.1, "PNEUMONIA": 0.9})
NEGATIVE = Prediction(0.2, "NORMAL", 0.5, {"NORMAL": 0.8, "PNEUMONIA": 0.2})


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_positive_label_is_coloured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [format_text("a.png", result, LABELS) for result in (POSITIVE, NEGATIVE)]
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout", Terminal())
    coloured = [format_text("a.png", result, LABELS) for result in (POSITIVE, NEGATIVE)]
    assert coloured[0] != plain[0] == click.unstyle(coloured[0])
    assert coloured[1] == plain[1]


def test_a_long_file_name_goes_to_a_line_of_its_own_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "folder/" * 8 + "a.png"
    assert format_text(name, NEGATIVE, LABELS).count("\n") == 1
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout", Terminal())
    prediction, file = format_text(name, NEGATIVE, LABELS).splitlines()
    assert file == f"    {name}"
    assert prediction.rstrip().endswith("NORMAL")
    assert format_text("a.png", NEGATIVE, LABELS).count("\n") == 1


def test_an_encoding_without_arrows_gets_two_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a pipe on Windows."""
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    assert format_text("a.png", NEGATIVE, LABELS) == (
        "PNEUMONIA  20 % (predicted from 50 %) -> NORMAL     a.png\n"
    )


@pytest.mark.parametrize(
    ("origin", "described", "drawn"),
    [
        ({}, "not described", False),
        (
            {"origin": describe_origin({"description": "Phantoms.", "drawn": True})},
            "Phantoms.",
            True,
        ),
    ],
)
def test_info_states_the_origin_of_the_images(
    flatbuffers: dict[str, bytes],
    info: ModelInfo,
    tmp_path: Path,
    origin: dict[str, object],
    described: str,
    drawn: bool,
) -> None:
    changed = dataclasses.replace(info, dataset={"name": "phantom", **origin})
    model = tmp_path / "model.tflite"
    model.write_bytes(append_model_info(flatbuffers["int8"], changed))
    result = CliRunner().invoke(cli, ["info", "-m", str(model)])
    assert result.exit_code == 0, result.output
    assert f"dataset.origin.description: {described}\n" in result.stdout
    assert "dataset.origin.population: not described\n" in result.stdout
    assert (DRAWN in result.stderr) == drawn
