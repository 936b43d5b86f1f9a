"""Progress on stderr: a bar on a terminal, a line in a log file."""

import io
import sys

import pytest

from cxr_tfds.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_with_the_time_left_disappears_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar("scoring test", 40) as advance:
        shown = terminal.getvalue()
        assert "scoring test:   0%" in shown  # before the first images are finished
        assert "0/40" in shown
        advance(40)
    assert terminal.getvalue().endswith("\r")
    assert "\n" not in terminal.getvalue()


@pytest.mark.parametrize(
    ("announce", "expected"), [(True, "scoring test (1,040 images)\n"), (False, "")]
)
def test_a_line_without_a_terminal(announce, expected, capsys):
    with progress_bar("scoring test", 1040, announce=announce) as advance:
        assert capsys.readouterr().err == expected
        advance(40)
    assert capsys.readouterr() == ("", "")


def test_a_process_without_stderr(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    with progress_bar("scoring test", 40) as advance:
        advance(40)
    assert capsys.readouterr().out == ""
