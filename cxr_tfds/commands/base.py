"""Click classes that all commands share.

Exit codes: 0 success, 1 the work failed, 2 wrong usage; 130 and 143 if the process had to be ended
after SIGINT or SIGTERM, see `cxr_tfds.deadline`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

import click

from cxr_tfds.deadline import deadlines, end_on_signals
from cxr_tfds.errors import InputError
from cxr_tfds.os_errors import explain_os_error
from cxr_tfds.sources.config_json import propose_sets
from cxr_tfds.text import did_you_mean, fold_text, is_terminal, printable, screen_width

# Modules that the base installation lacks, and the extra that installs each.
_EXTRAS = {
    "tensorflow": "train",
    "keras": "train",
    "tensorflow_datasets": "train",
    "apache_beam": "train",
    "jinja2": "train",
    "matplotlib": "train",
    "tqdm": "train",
    "pyarrow": "train",
    "cryptography": "sign",
    "pydicom": "dicom",
    "array_record": "arrayrecord",
    "streamlit": "app",
}


_DEBUG = "cxr_tfds.debug"  # key of the context
_MAX_METAVAR = 45  # characters
_NO_BREAK = "\N{NON-BREAKING HYPHEN}"


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """Returns `text` in a colour of `click.style` if `stream` (stdout by default) shows colours.

    A terminal does, unless the environment variable NO_COLOR is set (https://no-color.org).
    """
    stream = sys.stdout if stream is None else stream
    has_codes = is_terminal(stream) and os.environ.get("TERM") != "dumb"
    # Consoles of Windows show the codes as characters unless a program prepares them.
    shows_colours = has_codes and not os.environ.get("NO_COLOR") and sys.platform != "win32"
    return click.style(text, fg=colour, bold=True) if shows_colours else text


def print_notice(title: str, colour: str, text: str, stream: TextIO) -> None:
    """Prints text after a coloured title, broken between words if a terminal is narrower."""
    text = printable(text, keep="\n")
    folded = fold_text(f"{title} {text}", screen_width(stream))
    click.echo(paint(title, colour, stream) + folded.removeprefix(title), file=stream)


class _PrintableRecord(logging.LogRecord):
    """A record of a log, which may name files of strangers."""

    def getMessage(self) -> str:  # noqa: N802 (of the standard library)
        """Returns the message for a terminal."""
        return printable(super().getMessage(), keep="\n")


class _Failure(click.ClickException):
    """An error of the work, not of the usage."""

    def show(self, file: Any = None) -> None:
        """Prints the message."""
        file = sys.stderr if file is None else file
        print_notice("Error:", "red", self.format_message(), file)


class Interrupted(_Failure):
    """Ctrl-C ended a command that can continue; its message explains how."""


class _Formatter(click.HelpFormatter):
    """Breaks no line at a hyphen: a person copies the names of options and commands."""

    def write_text(self, text: str) -> None:
        """Writes a paragraph."""
        super().write_text(text.replace("-", _NO_BREAK))

    def write_dl(self, rows: Iterable[tuple[str, str]], *args: Any, **more: Any) -> None:
        """Writes a list of terms and their descriptions."""
        rows = [(term, text.replace("-", _NO_BREAK)) for term, text in rows]
        super().write_dl(rows, *args, **more)

    def getvalue(self) -> str:
        """Returns the help."""
        return super().getvalue().replace(_NO_BREAK, "-")


class _Help(click.Command):
    """Help with an example after the usage, and with options in groups.

    Args:
      example: A command line that works.
      groups: Title of each group of options to the names of its parameters. Options in no group
        come last.
    """

    def __init__(
        self,
        *args: Any,
        example: str = "",
        groups: Mapping[str, Sequence[str]] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self.example, self.groups = example, groups or {}

    def main(self, args: Sequence[str] | None = None, *more: Any, **settings: Any) -> Any:
        """Runs the command; without `args` it is the complete process and reads `sys.argv`."""
        with end_on_signals() if args is None else contextlib.nullcontext():
            return super().main(args, *more, **settings)

    def get_help(self, ctx: click.Context) -> str:
        """Returns the help."""
        formatter = _Formatter(width=ctx.terminal_width, max_width=ctx.max_content_width)
        self.format_help(ctx, formatter)
        return formatter.getvalue().rstrip("\n")

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the usage and the example."""
        super().format_usage(ctx, formatter)
        if self.example:
            program, _, args = self.example.partition(" ")
            formatter.write_usage(program, args, prefix="Example: ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes each group of options under its title."""
        if not self.groups:
            super().format_options(ctx, formatter)
            return
        params = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        grouped = {name for names in self.groups.values() for name in names}
        others = [param.name or "" for param in params if param.name not in grouped]
        for title, names in {**self.groups, "Other options": others}.items():
            options = [param for param in params if param.name in names]
            records = [record for param in options if (record := param.get_help_record(ctx))]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.meta[_DEBUG] = value


def is_debug(ctx: click.Context) -> bool:
    """Returns whether the user gave --debug."""
    return ctx.meta.get(_DEBUG, False)


def _fail(ctx: click.Context, message: str, err: BaseException) -> _Failure:
    """Returns the error that ends a command; with --debug prints where `err` and its causes are."""
    if is_debug(ctx):
        click.echo("".join(traceback.format_exception(err)), err=True, nl=False)
    return _Failure(message)


class Command(_Help):
    """A command that reports bad input and a missing extra in one message, with exit code 1."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.params.append(
            click.Option(
                ["--debug"],
                is_flag=True,
                expose_value=False,
                callback=_set_debug,
                help="Print the traceback of an error, too.",
            )
        )

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        # cxr_tfds.imaging refuses images that are too large, with the name of the file.
        warnings.filterwarnings("ignore", message=".*decompression bomb DOS attack")
        logging.setLogRecordFactory(_PrintableRecord)
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Names of files and classes may contain characters that the encoding of stdout lacks,
            # as in a pipe on Windows.
            sys.stdout.reconfigure(errors="backslashreplace")
        takes_sets = any(param.name == "sets" for param in self.params)
        try:
            with deadlines(), propose_sets() if takes_sets else contextlib.nullcontext():
                return super().invoke(ctx)
        except ModuleNotFoundError as err:
            module = (err.name or "").partition(".")[0]
            if module not in _EXTRAS:
                raise
            missing = (
                f"{ctx.command_path} needs {module}, which is not installed. "
                f"Install it with: pip install 'cxr-tfds[{_EXTRAS[module]}]'"
            )
            raise _fail(ctx, missing, err) from err
        except BrokenPipeError:
            raise  # the reader of the pipe, such as `head`, has ended; click exits quietly
        except InputError as err:
            raise _fail(ctx, str(err), err) from err
        except Exception as err:  # TensorFlow and HDF5 report a full disk in a text
            if (message := explain_os_error(err)) is None:
                raise
            raise _fail(ctx, message, err) from err


class Group(_Help, click.Group):
    """A group of `Command`s that suggests the nearest name for an unknown command."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the first sentence of each command, in full."""
        rows = [(name, each.get_short_help_str(limit=1000)) for name, each in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Returns the command that `args` name."""
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"Command {did_you_mean(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


class LocalPath(click.Path):
    """A `click.Path` with advice for a URL."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the path that `value` names."""
        if "://" in str(value):
            self.fail(f"{value} is a URL. Download it first, then give the file.", param, ctx)
        return super().convert(value, param, ctx)


class NearestChoice(click.Choice):
    """A `click.Choice` that suggests the nearest allowed value."""

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str | None:
        """Returns the choices, or the name of the option if there are too many for a line."""
        choices = f"[{'|'.join(map(str, self.choices))}]"
        name = max(param.opts, key=len).lstrip("-").upper()
        return choices if len(choices) <= _MAX_METAVAR else name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the allowed value that `value` names."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            message = did_you_mean(str(value), [str(choice) for choice in self.choices])
            raise click.BadParameter(message, ctx, param) from None
