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
# Whether the command takes `--set`: its user adds options and need not repeat any.
_takes_set: ContextVar[bool] = ContextVar("takes_set", default=False)


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
    """Returns the options that change settings, to be added to the command that the user typed.

    For a command with `--set` these are the changes. Otherwise it is `--config` with the settings
    that the user gave and the changes.

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
    if _takes_set.get() and not (_settings.get() or {}).keys() & set(removed):
        return " ".join(f"--set {shlex.quote(text)}" for text in format_sets(changes))
    config = {"name": name_config(given | changes)} | given | changes
    return f"--config {shlex.quote(json.dumps(config, ensure_ascii=False))}"


def format_sets(settings: Mapping[str, Any]) -> list[str]:
    """Returns each setting as `NAME=VALUE`, the value of the option `--set`."""
    return [
        f"{name}={value if _is_plain_text(value) else json.dumps(value, ensure_ascii=False)}"
        for name, value in settings.items()
    ]


def _is_plain_text(value: Any) -> bool:
    return isinstance(value, str) and value[:1] not in ("[", "{", '"') and value != "null"


@contextlib.contextmanager
def propose_sets() -> Iterator[None]:
    """Lets `propose_config` propose the option `--set`."""
    token = _takes_set.set(True)
    try:
        yield
    finally:
        _takes_set.reset(token)


def name_config(settings: Mapping[str, Any]) -> str:
    """Returns a name for a config without one. Names state the size, as listed configs do."""
    size = settings.get("size", 224)
    return f"{'original' if size is None else size}-mine"
