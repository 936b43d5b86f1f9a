"""What every command shares: exit codes, choices that offer the nearest one, output folders.

Exit codes: 0 done, 1 the work failed, 2 wrong usage.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from cxr_tfds.errors import InputError

# The extra that brings a module which the base install lacks.
_EXTRAS = {
    "tensorflow": "train",
    "keras": "train",
    "tensorflow_datasets": "train",
    "apache_beam": "train",
    "jinja2": "train",
    "matplotlib": "train",
    "tqdm": "train",
    "pydicom": "dicom",
}


class Command(click.Command):
    """A command that answers bad input and a missing extra with one message and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        # An image too large is refused by us, with its name.
        warnings.filterwarnings("ignore", message=".*decompression bomb DOS attack")
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A file or a class may have a name that the encoding lacks, as that of a pipe on Windows does.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as err:
            module = (err.name or "").partition(".")[0]
            if module not in _EXTRAS:
                raise
            extra = _EXTRAS[module]
            raise click.ClickException(
                f"{ctx.command_path} needs {module}, which is not installed here. "
                f"Install it with: pip install 'cxr-tfds[{extra}]'"
            ) from err
        except BrokenPipeError:
            raise  # the reader of a pipe, such as `head`, has enough; click ends quietly
        except (InputError, OSError) as err:
            raise click.ClickException(str(err)) from err


class Group(click.Group):
    """A group whose commands are `Command`s and which offers the nearest name for an unknown one."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"Command {unknown(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


class NearestChoice(click.Choice):
    """A `click.Choice` that names the nearest allowed value."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            raise click.BadParameter(unknown(str(value), [str(c) for c in self.choices]), ctx, param) from None


@contextlib.contextmanager
def native_stderr_closed() -> Iterator[None]:
    """Keeps the log lines of C++ code off the screen; what goes wrong there comes as an exception."""
    try:
        kept = os.dup(2)
    except OSError:  # the process has no stderr
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def load_tensorflow() -> None:
    """Imports TensorFlow without its log lines. A command calls this before anything that needs it."""
    # Its C++ side otherwise tells of its search for GPUs, and of every conversion.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with native_stderr_closed():
        importlib.import_module("tensorflow")


def unknown(value: str, allowed: Sequence[str]) -> str:
    """What to say of a value that is none of `allowed`: them all, and the nearest."""
    spelling = {name.casefold(): name for name in allowed}
    holding = [name for name in spelling if value and value.casefold() in name]
    near = holding or difflib.get_close_matches(value.casefold(), spelling, n=1, cutoff=0.45)
    hint = f" Did you mean {spelling[near[0]]!r}?" if near else ""
    return f"{value!r} is not one of {', '.join(map(repr, allowed))}.{hint}"


def check_new_folder(folder: Path, *, overwrite: bool, resume: bool | None = None) -> None:
    """Refuses a folder that holds something, so that nothing is replaced without being asked to.

    Raises:
      InputError: `folder` is a file, or is not empty and neither overwrite nor resume was given.
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file; expected a folder to write to.")
    if overwrite or resume or not folder.exists() or not any(folder.iterdir()):
        return
    ways = "--overwrite to replace what stands there" + (" or --resume to go on" if resume is not None else "")
    raise InputError(f"{folder} exists and is not empty. Choose another folder, or give {ways}.")
