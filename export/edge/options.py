"""Options that several commands of the device take."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from cxr_tfds.commands.base import LocalPath, NearestChoice
from cxr_tfds.signing import TRUST

RUNTIMES = ("auto", "litert", "tflite-runtime")


def _trust(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Makes the key a rule for every model that this process and its children read."""
    if value is not None:
        ctx.with_resource(_variable(TRUST, value))


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Sets an environment variable and restores it at the end."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def model(command: Callable) -> Callable:
    """Adds --model, and --trust for its signature."""
    trust = click.option(
        "--trust",
        metavar="PUBLIC_KEY",
        type=LocalPath(exists=True, dir_okay=False),
        callback=_trust,
        expose_value=False,
        help="Refuse a model unless it was signed with this Ed25519 key (cxr-export --sign) and "
        f"is unchanged.  [default: the file in {TRUST}, if it is set]",
    )
    path = click.option(
        "--model",
        "-m",
        required=True,
        type=LocalPath(exists=True, dir_okay=False, path_type=Path),
        help="The .tflite of cxr-export.",
    )
    return path(trust(command))


runtime = click.option(
    "--runtime",
    type=NearestChoice(RUNTIMES),
    default="auto",
    show_default=True,
    help="Runtime that executes the model; auto prefers litert.",
)
threads = click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of threads of the runtime.",
)
threshold = click.option(
    "--threshold",
    metavar="VALUE|RULE",
    help="Probability from which the positive class, or any finding, is predicted; or the rule of "
    "an operating point that cxr-infer info shows, such as youden.  [default: the threshold of the "
    "file]",
)
sensitivity = click.option(
    "--sensitivity",
    type=click.FloatRange(0, 1),
    help="Use the most specific operating point of the file that has at least this sensitivity on "
    "the validation split, such as 0.95.",
)
