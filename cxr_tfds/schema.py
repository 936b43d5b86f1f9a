"""Reads JSON that must fit a schema. Every JSON file of the project is read here.

A schema is a type that `msgspec` converts to: a dataclass, a `TypedDict` or a container of them,
with `msgspec.Meta` for ranges. A value must have exactly the type of the schema: "3" is not a
number. Keys that the schema does not have are refused by name, at every depth. See
https://jcristharif.com/msgspec/constraints.html.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict, TypeVar

import msgspec
from msgspec import Meta

from cxr_tfds import __version__
from cxr_tfds.errors import InputError

T = TypeVar("T")

_MAX = 1e300  # excludes infinity
_MAX_SHOWN = 60  # characters of a value in a message
# Words for the types and signs in the messages of msgspec.
_TYPES = {
    "int": "a whole number", "float": "a number", "str": "text", "bool": "true or false",
    "array": "a list", "object": "an object",
}  # fmt: skip
_SIGNS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_CHOICES = re.compile(r"`str` matching regex '\^\(([\w|]+)\)(?:\$|\\\\Z)'")
# UnicodeError: msgspec checks the text of a string apart from the rest.
_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError)

Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
AtLeastOne = Annotated[int, Meta(ge=1, le=2**53)]
Finite = Annotated[float, Meta(ge=-_MAX, le=_MAX)]
NotNegative = Annotated[float, Meta(ge=0, le=_MAX)]
Temperature = Annotated[float, Meta(gt=0, le=1e6)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Policy = Annotated[str, Meta(pattern="^(ignore|positive|negative)$")]
Fit = Annotated[str, Meta(pattern="^(stretch|pad|crop)$")]


class Origin(TypedDict):
    """Where images come from, see `cxr_tfds.sources.origin.describe_origin`."""

    description: Text
    licence: Text
    population: Text
    drawn: bool


class GreyLevelSettings(TypedDict, total=False):
    """How values of more than 8 bits became grey values, see `GreyLevels.to_metadata`."""

    bits: Annotated[int, Meta(ge=8, le=16)] | None
    window: Annotated[list[Finite], Meta(min_length=2, max_length=2)] | None
    percentile: Annotated[list[Finite], Meta(min_length=2, max_length=2)] | None
    grey_range: Annotated[list[Finite], Meta(min_length=2, max_length=2)] | None


class ReaderOptions(TypedDict, total=False):
    """How a source was read: the fields of `cxr_tfds.sources.settings.ReaderSettings`."""

    classes: list[str] | dict[str, list[str]] | None
    negative: str | None
    class_pattern: str | None
    patient: str | None
    include: list[str] | None
    exclude: list[str] | None
    on_conflict: str
    table: str | dict[str, str] | None
    image: str | None
    label: str | list[str] | None
    split_column: str | None
    split_lists: dict[str, str] | None
    repeated_rows: str | None
    on_missing: str | None


def read_json(path: Path, schema: type[T], advice: str, *, allow_unknown: bool = False) -> T:
    """Reads a JSON file.

    Args:
      path: The file.
      schema: The type of its content.
      advice: What to do if it does not fit, for the error message.
      allow_unknown: Whether to ignore keys that the schema does not have. Only for the files of
        other software.

    Raises:
      InputError: The file is not JSON or does not fit the schema.
      OSError: The file is missing or cannot be read.
    """
    return parse_json(path.read_bytes(), schema, str(path), advice, allow_unknown=allow_unknown)


def parse_json(
    content: bytes | str, schema: type[T], name: str, advice: str, *, allow_unknown: bool = False
) -> T:
    """Returns the value of JSON that is called `name` in messages, see `read_json`."""
    try:
        value = msgspec.json.decode(content)
    except _UNREADABLE as err:
        raise InputError(f"{name} is corrupt: not valid JSON ({err}). {advice}".rstrip()) from err
    return fit_schema(value, schema, name, advice, allow_unknown=allow_unknown)


def fit_schema(
    value: Any, schema: type[T], name: str, advice: str, *, allow_unknown: bool = False
) -> T:
    """Returns a parsed JSON value as its schema has it, see `read_json`."""
    try:
        fitted = msgspec.convert(value, schema)
    except _UNREADABLE as err:
        raise InputError(f"{name} is corrupt: {_explain(err, value)}. {advice}".rstrip()) from err
    unknown = None if allow_unknown else _find_unknown(value, msgspec.to_builtins(fitted))
    if unknown:
        raise InputError(
            f"{name} has the unknown key {unknown}; cxr-tfds {__version__} does not know it. If a "
            f"newer version wrote the file, install that version. {advice}".rstrip()
        )
    return fitted


def check_fields(instance: Any) -> None:
    """Raises an InputError if a field of a dataclass instance does not have its type or range."""
    for name, schema in typing.get_type_hints(type(instance), include_extras=True).items():
        value = getattr(instance, name)
        try:
            msgspec.convert(value, schema)
        except _UNREADABLE as err:
            problem, path = _split(err)
            where = f" at {path}" if path else ""
            raise InputError(f"{name}={_shorten(value)}; {problem}{where}.") from err


def _explain(err: Exception, value: Any) -> str:
    """Returns where a value does not fit its schema, what is there and what was expected."""
    problem, path = _split(err)
    if not problem.startswith(("expected", "lacks")):  # the check of a dataclass
        return f"${path}: {problem}" if path else problem
    found = None if problem.startswith("lacks") else _look_up(value, path)
    return f"${path} {problem}" if found is None else f"${path}={_shorten(found)}; {problem}"


def _split(err: Exception) -> tuple[str, str]:
    """Returns what msgspec found wrong, in words, and the path to it."""
    text, _, path = str(err).partition(" - at `$")
    if missing := re.fullmatch("Object missing required field (.*)", text):
        text = f"lacks the key {missing[1]}"
    elif text.startswith("Expected"):
        text = _CHOICES.sub(lambda match: match[1].replace("|", " or "), f"e{text[1:]}")
        text = re.sub("`(.*?)`", _name_types, text)
        for sign, words in _SIGNS.items():
            text = text.replace(f" {sign} ", f" {words} ")
    return text.rstrip("."), path.rstrip("`")


def _name_types(match: re.Match[str]) -> str:
    names = [_TYPES.get(name, name) for name in match[1].split(" | ")]
    return " or ".join(names)


def _look_up(value: Any, path: str) -> Any:
    """Returns the value at a path of msgspec, or None if the path does not name all keys."""
    for key, index in re.findall(r"\.([^.\[\]]+)|\[([^\]]+)\]", path):
        try:
            value = value[key] if key else value[int(index)]
        except (LookupError, TypeError, ValueError):
            return None
    return value


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _find_unknown(given: Any, kept: Any, path: str = "$") -> str | None:
    """Returns the path of the first key that is given but not kept."""
    if isinstance(given, Mapping):
        for key, value in given.items():
            if key not in kept:
                return f"{path}.{key}"
            if found := _find_unknown(value, kept[key], f"{path}.{key}"):
                return found
    elif isinstance(given, list | tuple):
        for index, pair in enumerate(zip(given, kept, strict=True)):
            if found := _find_unknown(*pair, f"{path}[{index}]"):
                return found
    return None
