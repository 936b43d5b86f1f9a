"""Click classes that all commands share.

Exit codes: 0 success, 1 the work failed, 2 wrong usage.
"""

from __future__ import annotations

import io
import sys
import warnings
from typing import Any

import click

from cxr_tfds.errors import InputError
from cxr_tfds.text import did_you_mean

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
    "pydicom": "dicom",
    "array_record": "arrayrecord",
}


class Command(click.Command):
    """A command that reports bad input and a missing extra in one message, with exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        # cxr_tfds.imaging refuses images that are too large, with the name of the file.
        warnings.filterwarnings("ignore", message=".*decompression bomb DOS attack")
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Names of files and classes may contain characters that the encoding of stdout lacks,
            # as in a pipe on Windows.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as err:
            module = (err.name or "").partition(".")[0]
            if module not in _EXTRAS:
                raise
            raise click.ClickException(
                f"{ctx.command_path} needs {module}, which is not installed. "
                f"Install it with: pip install 'cxr-tfds[{_EXTRAS[module]}]'"
            ) from err
        except BrokenPipeError:
            raise  # the reader of the pipe, such as `head`, has ended; click exits quietly
        except (InputError, OSError) as err:
            raise click.ClickException(str(err)) from err


class Group(click.Group):
    """A group of `Command`s that suggests the nearest name for an unknown command."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Returns the command that `args` name."""
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"Command {did_you_mean(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


class NearestChoice(click.Choice):
    """A `click.Choice` that suggests the nearest allowed value."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the allowed value that `value` names."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            message = did_you_mean(str(value), [str(choice) for choice in self.choices])
            raise click.BadParameter(message, ctx, param) from None
