"""Adapts `tfds build`: errors without traceback, and an `--overwrite` that loses no dataset."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator

from absl import app, flags

from cxr_tfds.errors import InputError
from cxr_tfds.sources.config_json import explain_invalid_json
from cxr_tfds.text import printable


class _PlainErrors(app.ExceptionHandler):
    """Prints errors that the user can correct as one message; the exit code stays 1.

    absl calls its handlers only for the exception that ends a command, so programs that import a
    builder are not affected.
    """

    def wants(self, exc: Exception) -> bool:
        return isinstance(exc, (InputError, json.JSONDecodeError))

    def handle(self, exc: Exception) -> None:
        message = printable(exc, keep="\n")
        if isinstance(exc, json.JSONDecodeError):  # TFDS parses --config before it calls us
            message = explain_invalid_json(exc.doc, f": {exc}")
        sys.excepthook = lambda *_: sys.stderr.write(f"Error: {message}\n")


def install_error_handler() -> None:
    """Lets absl commands such as `tfds build` print our errors without traceback."""
    app.install_exception_handler(_PlainErrors())


def is_absl_command() -> bool:
    """Returns whether this process is an absl command, such as `tfds build`."""
    return flags.FLAGS.is_parsed()


def overwrite_requested() -> bool:
    """Returns whether this process is `tfds build --overwrite`.

    TFDS (4.9.10) deletes a prepared dataset before it calls `download_and_prepare`, whose
    `download_mode` is the first public place that carries the option. The command line is the only
    source before that. argparse accepts unambiguous abbreviations: `--ov` is one.
    """
    return is_absl_command() and any(word.startswith("--ov") for word in sys.argv)


@contextlib.contextmanager
def hide_tfds_warnings() -> Iterator[None]:
    """Hides what TFDS warns of although nothing is wrong.

    It does so for every config that a builder does not list, and for its own code that parses a
    tensor (4.9.10).
    """
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
