"""What goes otherwise in a process that is the `tfds` command."""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any, NoReturn

from cxr_tfds.errors import InputError

_MODULE = "tensorflow_datasets.scripts.cli.main"


def is_running() -> bool:
    """Whether this process is the `tfds` command."""
    return _MODULE in sys.modules


def overwrite_requested() -> bool:
    """Whether this process is `tfds build --overwrite`, or the same abbreviated."""
    return is_running() and any(word.startswith("--ov") for word in sys.argv)


def config_settings(text: str) -> Any:
    """What the JSON of `--config` holds.

    Raises:
      InputError: it is no JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as err:
        raise InputError(
            f'--config {text!r} is no JSON: {err}. Expected settings as in --config \'{{"name": "224-mine"}}\', names '
            "and texts in double quotes."
        ) from err


def check_config() -> None:
    """Ends `tfds build --config JSON` where that is no JSON; TFDS itself would show a traceback."""
    if not is_running():
        return
    for word, following in itertools.pairwise([*sys.argv, ""]):
        option, _, text = word.partition("=")
        if option == "--config" and (text := text or following).startswith("{"):
            try:
                config_settings(text)
            except InputError as err:
                fail(err)


def fail(err: InputError, cause: BaseException | None = None) -> NoReturn:
    """Raises `err`; to a person who runs the command, without forty lines of traceback above it."""
    if is_running():
        sys.exit(f"Error: {err}")
    raise err from cause
