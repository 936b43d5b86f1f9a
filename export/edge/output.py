"""Writes results to standard output: complete rows, and one error if writing fails."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from cxr_tfds.commands.base import paint
from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.text import csv_line, printable, screen_width, to_json

if TYPE_CHECKING:
    from .model_info import ModelInfo
    from .prediction import Prediction


_NEXT_LINE = "\n    "
_THEN = "(then  50 %)"  # without the name of the class


class OutputError(InputError):
    """Standard output cannot be written."""


def write(text: str) -> None:
    """Writes to standard output, or raises OutputError, or BrokenPipeError if its reader ended."""
    if sys.stdout is None:
        raise OutputError("Nothing was written: this process was started without standard output.")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _close_stdout()
        raise
    except OSError as err:
        _close_stdout()
        raise OutputError(f"Standard output cannot be written: {err.strerror or err}.") from err


def write_rows(rows: Iterable[str], start: str = "", separator: str = "", end: str = "") -> None:
    """Writes rows as they come. On an interrupt or error, rows are complete and `end` follows."""
    with _interrupt_between_writes() as write_complete:
        write_complete(start)
        try:
            for number, row in enumerate(rows):
                write_complete((separator if number else "") + row)
        except (OutputError, BrokenPipeError):
            raise
        except BaseException:
            write_complete(end)
            raise
        write_complete(end)


def format_fields(fields: dict[str, Any], prefix: str = "") -> str:
    """Returns one `name: value` a line; dots join nested names."""
    rows = []
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            rows.append(format_fields(value, f"{prefix}{name}."))
            continue
        if isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value))
        rows.append(printable(f"{prefix}{name}: {value}"))
    return "\n".join(rows)


def format_json(name: str, result: Prediction | BadImage) -> str:
    """Returns a JSON object."""
    row: dict[str, Any] = {"file": name}
    if isinstance(result, BadImage):
        row["error"] = result.reason
    elif result.findings:
        row["findings"] = {
            finding.name: {
                "present": finding.is_present,
                "probability": finding.probability,
                "threshold": finding.threshold,
            }
            for finding in result.findings
        }
    else:
        rule: dict[str, Any] = {"most_probable": True}
        if result.positive is not None:
            rule = {"class": result.positive, "threshold": result.threshold}
        row.update(label=result.label, probabilities=result.probabilities, rule=rule)
    return to_json(row)


def format_text(name: str, result: Prediction | BadImage, labels: tuple[str, ...]) -> str:
    """Returns a line for people, or one for each finding."""
    name, width = printable(name), max(len(printable(label)) for label in labels)
    if isinstance(result, BadImage):
        return f"{'?':<{width}}  {name}: {printable(result.reason)}\n"
    statements = result.statements()
    rules = [f"({x.rule})" for x in statements]
    # Another class may come second in the next row.
    rule_width = max(map(len, rules)) if result.positive or result.findings else width + len(_THEN)
    outcome_width = len("present") if result.findings else width
    # Of two classes, every row begins with the same one.
    name_width = width if result.positive is None else len(printable(result.positive))
    lines, screen = [], screen_width()
    for x, rule in zip(statements, rules, strict=True):
        start = f"{printable(x.name):<{name_width}} {x.probability:>5} {rule:<{rule_width}} "
        start += f"{_arrow()} "
        outcome = f"{printable(x.outcome):<{outcome_width}}"
        fits = screen is None or len(f"{start}{outcome}  {name}") <= screen
        if x.outcome == ("present" if result.findings else result.positive):
            outcome = paint(outcome, "yellow")
        lines.append(f"{start}{outcome}{'  ' if fits else _NEXT_LINE}{name}\n")
    return "".join(lines)


def _arrow() -> str:
    """Returns an arrow that the encoding of standard output has."""
    try:
        "→".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return "->"
    return "→"


class Style(NamedTuple):
    """How results are printed."""

    format: Callable[[str, Prediction | BadImage], str]  # one result
    frame: tuple[str, ...] = ()  # arguments of `write_rows` after the rows


def make_style(name: str, info: ModelInfo) -> Style:
    """Returns the style "json", "csv" or "text" for the results of a model."""
    if name == "json":
        return Style(format_json, ("[\n", ",\n", "\n]\n"))
    if name == "text":
        return Style(partial(format_text, labels=info.labels))
    if info.several_findings:
        columns = ["file", "finding", "present", "probability", "threshold", "error"]
        return Style(partial(_format_findings_csv, columns), (csv_line(columns),))
    columns = ["file", "label", *(f"probability_{label}" for label in info.labels)]
    if info.threshold is not None:
        columns.append(f"threshold_{info.labels[1]}")
    columns.append("error")
    return Style(partial(_format_csv, columns), (csv_line(columns),))


def _format_csv(columns: Sequence[str], name: str, result: Prediction | BadImage) -> str:
    """Returns a line of CSV."""
    if isinstance(result, BadImage):
        return _csv_error(columns, name, result)
    threshold = [] if result.threshold is None else [result.threshold]
    return csv_line([name, result.label, *result.probabilities.values(), *threshold, ""])


def _format_findings_csv(columns: Sequence[str], name: str, result: Prediction | BadImage) -> str:
    """Returns a line of CSV for each finding."""
    if isinstance(result, BadImage):
        return _csv_error(columns, name, result)
    return "".join(
        csv_line([name, x.name, int(x.is_present), x.probability, x.threshold, ""])
        for x in result.findings
    )


def _csv_error(columns: Sequence[str], name: str, error: BadImage) -> str:
    return csv_line([name, *[""] * (len(columns) - 2), error.reason])


@contextlib.contextmanager
def _interrupt_between_writes() -> Iterator[Callable[[str], None]]:
    """Yields a `write` that Ctrl-C does not interrupt; a second Ctrl-C does."""
    is_writing = is_interrupted = False

    def handle_interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal is_interrupted
        if not is_writing or is_interrupted:
            raise KeyboardInterrupt
        is_interrupted = True

    def write_complete(text: str) -> None:
        nonlocal is_writing, is_interrupted
        is_writing = True
        try:
            write(text)
        finally:
            is_writing = False
        if is_interrupted:
            is_interrupted = False
            raise KeyboardInterrupt

    # Only the main thread can handle signals, and an ignored signal (nohup) stays ignored.
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    replaces_handler = is_default and threading.current_thread() is threading.main_thread()
    if replaces_handler:
        signal.signal(signal.SIGINT, handle_interrupt)
    try:
        yield write_complete
    finally:
        if replaces_handler:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _close_stdout() -> None:
    """Replaces standard output, because Python flushes it at exit and would fail again."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
