"""Rows of predictions for people, on a terminal and in a file."""

from __future__ import annotations

import io

import click
import pytest

from cxr_tfds.export.edge.output import format_text
from cxr_tfds.export.edge.prediction import Prediction

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
