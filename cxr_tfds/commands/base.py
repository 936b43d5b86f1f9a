"""What every command shares: exit codes, choices that offer the nearest one, output folders.

Exit codes: 0 done, 1 the work failed, 2 wrong usage.
"""

from __future__ import annotations

import io
import sys
import warnings
from typing import Any

import click

from cxr_tfds.errors import InputError
from cxr_tfds.text import did_you_mean

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
            ctx.fail(f"Command {did_you_mean(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


class NearestChoice(click.Choice):
    """A `click.Choice` that names the nearest allowed value."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            raise click.BadParameter(
                did_you_mean(str(value), [str(c) for c in self.choices]), ctx, param
            ) from None
