"""Settings in JSON, as the option `--config` takes them: read from it, and proposed in messages."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from cxr_tfds.errors import InputError

# A reader or a check knows only a part of the settings, but its message proposes all of them.
_settings: ContextVar[Mapping[str, Any] | None] = ContextVar("settings", default=None)


def parse_config(text: str) -> dict[str, Any]:
    """Returns the settings given with `--config`.

    Raises:
      InputError: `text` is not a JSON object.
    """
    try:
        config = json.loads(text)
    except json.JSONDecodeError as err:
        raise InputError(explain_invalid_json(text, f": {err}")) from err
    if not isinstance(config, dict):
        raise InputError(explain_invalid_json(text))
    return config


def explain_invalid_json(text: str, problem: str = "") -> str:
    """Returns a message for a `--config` that is not a JSON object."""
    return (
        f"--config {text!r} is not a JSON object{problem}; expected settings such as "
        '--config \'{"name": "224-mine"}\', with names and texts in double quotes.'
    )


@contextlib.contextmanager
def repeat_settings(settings: Mapping[str, Any]) -> Iterator[None]:
    """Lets `propose_config` repeat the settings that the user gave."""
    token = _settings.set(settings)
    try:
        yield
    finally:
        _settings.reset(token)


def propose_config(*removed: str, **changes: Any) -> str:
    """Returns the option `--config` with the settings that the user gave and some changes.

    New patterns in `exclude` join the patterns of the user. A list of `classes` selects from a
    mapping that the user gave.

    Args:
      removed: Settings that contradict the changes.
      changes: Settings to add or to replace.
    """
    given = {name: value for name, value in (_settings.get() or {}).items() if name not in removed}
    if "exclude" in changes:
        changes["exclude"] = [*given.get("exclude", ()), *changes["exclude"]]
    spellings = given.get("classes")
    if isinstance(spellings, Mapping) and isinstance(changes.get("classes"), list):
        changes["classes"] = {name: spellings.get(name, [name]) for name in changes["classes"]}
    config = {"name": name_config(given | changes)} | given | changes
    return f"--config {shlex.quote(json.dumps(config, ensure_ascii=False))}"


def name_config(settings: Mapping[str, Any]) -> str:
    """Returns a name for a config without one. Names state the size, as listed configs do."""
    size = settings.get("size", 224)
    return f"{'original' if size is None else size}-mine"
