"""The description of a setting: its help text, its allowed values and the check of a value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.text import did_you_mean


class Interval(NamedTuple):
    """The allowed numbers; `open_low` and `open_high` say whether the limits are excluded."""

    low: float
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    def contains(self, value: float) -> bool:
        """Returns whether `value` is finite and allowed."""
        above = value > self.low if self.open_low else value >= self.low
        high = math.inf if self.high is None else self.high
        below = value < high if self.open_high else value <= high
        return math.isfinite(value) and above and below

    def __str__(self) -> str:
        low = f"{'more than' if self.open_low else 'at least'} {self.low}"
        if self.high is None:
            return low
        return f"{low} and {'less than' if self.open_high else 'at most'} {self.high}"


@dataclasses.dataclass(frozen=True)
class Setting:
    """The description of a dataclass field."""

    help: str  # what the setting does, and its unit
    interval: Interval | None = None
    choices: Collection[Any] = ()
    check: Callable[[str], object] | None = None  # raises InputError for a wrong text
    metavar: str | None = None
    unset: str | None = None  # what applies if the option is not given, if there is no default
    option: str | None = None  # name of the option if it is not the name of the field


def describe(default: Any, *description: Any, **more: Any) -> Any:
    """Returns a dataclass field with this default, described by a `Setting` of the other values."""
    return dataclasses.field(default=default, metadata={"setting": Setting(*description, **more)})


def value_type(field: dataclasses.Field[Any]) -> str:
    """Returns the type of a described field without None: "int", "float", "str", …."""
    return str(field.type).removesuffix(" | None")


def check_value(field: dataclasses.Field[Any], value: Any) -> None:
    """Raises an InputError if a value of a described field, of the right type, is not allowed."""
    setting: Setting = field.metadata["setting"]
    if value is None and field.default is None:
        return
    if setting.choices and value not in setting.choices:
        choices = [str(choice) for choice in setting.choices]
        raise InputError(f"{field.name}: {did_you_mean(str(value), choices)}")
    if setting.interval is not None and not setting.interval.contains(value):
        raise InputError(f"{field.name}={value!r}; expected {setting.interval}.")
    if setting.check is not None and value != field.default:
        setting.check(value)
