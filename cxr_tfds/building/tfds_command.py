"""What goes otherwise in a process that is the `tfds` command."""

from __future__ import annotations

import sys
from typing import NoReturn

from cxr_tfds.errors import InputError

_MODULE = "tensorflow_datasets.scripts.cli.main"


def is_running() -> bool:
    """Whether this process is the `tfds` command."""
    return _MODULE in sys.modules


def told_to_overwrite() -> bool:
    """Whether this process is `tfds build --overwrite`, or the same abbreviated."""
    return is_running() and any(word.startswith("--ov") for word in sys.argv)


def fail(err: InputError, cause: BaseException | None = None) -> NoReturn:
    """Raises `err`; to a person who runs the command, without forty lines of traceback above it."""
    if is_running():
        sys.exit(f"Error: {err}")
    raise err from cause
