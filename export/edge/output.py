"""Results on standard output: whole rows, and one clear error where they cannot be written."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cxr_tfds.errors import InputError

if TYPE_CHECKING:
    from .classifier import Prediction


class Unwritable(InputError):
    """Standard output takes nothing more."""


class ReaderGone(BrokenPipeError):
    """What read standard output has enough, such as `head`: a command ends without a word."""


class Form(NamedTuple):
    """How answers are laid out: `row` is one of them, the others stand around and between."""

    row: Callable[
        [str, Prediction | str, tuple[str, ...]], str
    ]  # of a file's name, its answer, the labels
    start: str = ""
    between: str = ""
    end: str = ""


def write(text: str) -> None:
    """Writes to standard output.

    Raises:
      Unwritable: there is none, or it is full.
      ReaderGone: its reader is.
    """
    if sys.stdout is None:
        raise Unwritable("Nothing was written: this process was started without standard output.")
    try:
        click.echo(text, nl=False)
    except OSError as err:
        _close_stdout()
        if err.errno == errno.EPIPE:
            raise ReaderGone(*err.args) from err
        raise Unwritable(f"Standard output cannot be written: {err.strerror or err}.") from err


def write_rows(rows: Iterable[str], form: Form) -> None:
    """Writes rows as they come. Interrupted, those written so far are whole and the end stands behind them.

    Raises:
      Unwritable, ReaderGone: as `write`.
      KeyboardInterrupt: Ctrl-C.
    """
    with _interrupted_between_writes() as write_whole:
        write_whole(form.start)
        try:
            for number, row in enumerate(rows):
                write_whole((form.between if number else "") + row)
        except (Unwritable, ReaderGone):
            raise
        except BaseException:
            write_whole(form.end)
            raise
        write_whole(form.end)


def lines(facts: dict[str, Any], before: str = "") -> str:
    """One `name: value` a line, nested names joined by dots."""
    rows = []
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            rows.append(lines(value, f"{before}{name}."))
            continue
        if isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value))
        rows.append(f"{before}{name}: {value}")
    return "\n".join(rows)


def _json(name: str, answer: Prediction | str, labels: tuple[str, ...]) -> str:
    row: dict[str, Any] = {"file": name}
    if isinstance(answer, str):
        row["error"] = answer
    else:
        row.update(label=answer.label, probability=answer.probability, threshold=answer.threshold)
        if answer.threshold is None:
            row["probabilities"] = dict(zip(labels, answer.probabilities, strict=True))
    return json.dumps(row)


def _csv(name: str, answer: Prediction | str, labels: tuple[str, ...]) -> str:
    name = click.format_filename(name)
    if isinstance(answer, str):
        return _csv_line(name, "", "", "", answer)
    return _csv_line(name, answer.label, answer.probability, answer.threshold, "")


def _csv_line(*cells: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _table(name: str, answer: Prediction | str, labels: tuple[str, ...]) -> str:
    name, width = click.format_filename(name), max(map(len, labels))
    if isinstance(answer, str):
        return f"{'?':<{width}}  {name} {answer}\n"
    against = "" if answer.threshold is None else f" (threshold {answer.threshold:.3f})"
    return f"{answer.label:<{width}}  {answer.probability:.3f}{against}  {name}\n"


FORMS = {
    "json": Form(_json, "[\n", ",\n", "\n]\n"),
    "csv": Form(_csv, _csv_line("file", "label", "probability", "threshold", "error")),
    "table": Form(_table),
}


@contextlib.contextmanager
def _interrupted_between_writes() -> Iterator[Callable[[str], None]]:
    """A `write` which Ctrl-C lets finish; a second Ctrl-C does not wait."""
    writing = waiting = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal waiting
        if not writing or waiting:
            raise KeyboardInterrupt
        waiting = True

    def write_whole(text: str) -> None:
        nonlocal writing, waiting
        writing = True
        try:
            write(text)
        finally:
            writing = False
        if waiting:
            waiting = False
            raise KeyboardInterrupt

    # Signals are caught in the main thread only, and one that is ignored (nohup) stays so.
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ours = usual and threading.current_thread() is threading.main_thread()
    if ours:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield write_whole
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _close_stdout() -> None:
    """Python flushes once more at its end and would fail again, with a traceback and exit code 120."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
