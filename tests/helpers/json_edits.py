"""Edits of a JSON value, as a person, another program or a bad disk may make them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

_MOST_ITEMS = 2  # of a list: its items are alike
_ADDED = "surprise"


def edits(content: Any) -> Iterator[tuple[str, Any]]:
    """Yields a description of each edit, and the edited copy."""
    for path, value in _walk(content):
        for name, new in _replacements(value):
            yield f"{name} at {_format(path)}", _put(content, path, new)
        if isinstance(value, dict):
            yield f"added key at {_format(path)}", _put(content, (*path, _ADDED), 1)
        if path and isinstance(path[-1], str):
            yield f"dropped {_format(path)}", _drop(content, path)


def _walk(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    yield path, value
    if isinstance(value, dict):
        for key in value:
            yield from _walk(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(min(len(value), _MOST_ITEMS)):
            yield from _walk(value[index], (*path, index))


def _replacements(value: Any) -> Iterator[tuple[str, Any]]:
    if value is not None:
        yield "null", None
    if isinstance(value, bool):
        yield "text for a truth value", "no"
        yield "number for a truth value", 2
    elif isinstance(value, int | float):
        yield "text for a number", "many"
        yield "negative number", -7
        yield "huge number", 10**30
        yield "NaN", float("nan")
        yield "list for a number", [value]
    elif isinstance(value, str):
        yield "number for a text", 5
        yield "list for a text", [value]
        yield "empty text", ""
    elif isinstance(value, list):
        yield "text for a list", "x"
        yield "empty list", []
        yield "list in an item", [[item] for item in value]
        if len(value) > 1 and value != value[::-1]:
            yield "reversed list", value[::-1]
        if value:
            yield "shorter list", value[:-1]
            yield "longer list", [*value, value[-1]]
    elif isinstance(value, dict):
        yield "text for an object", "x"
        yield "list for an object", [1]
        yield "empty object", {}
    else:
        yield "object for null", {"x": 1}
        yield "huge number for null", 10**30


def _put(content: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    content = copy.deepcopy(content)
    parent = _parent(content, path)
    parent[path[-1]] = new
    return content


def _drop(content: Any, path: tuple[Any, ...]) -> Any:
    content = copy.deepcopy(content)
    del _parent(content, path)[path[-1]]
    return content


def _parent(content: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        content = content[key]
    return content


def _format(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, ("$", *path)))
