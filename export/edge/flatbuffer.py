"""Reading a flatbuffer that may be damaged: every offset is checked before it is followed. NumPy only.

https://flatbuffers.dev/internals: a table begins with the distance back to its vtable, which holds the sizes of
both and where each field stands; vectors, strings and tables are reached by offsets forward, and vectors begin
with their length. Interpreters follow them unchecked, so a damaged one may end their process.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from cxr_tfds.errors import InputError

_MOST = 100_000  # entries of a vector of tables; a model of this project has hundreds


class Damaged(InputError):
    """A flatbuffer that is none."""


class Table:
    """A table at a place of the data; fields are asked for by their number in the schema.

    Raises:
      Damaged: it, or a field that is asked for, does not lie within the data.
    """

    def __init__(self, data: bytes, place: int) -> None:
        self._data = data
        self._place = place
        self._vtable = place - _number(data, "i", place)
        self._fields, self._size = (
            _number(data, "H", self._vtable),
            _number(data, "H", self._vtable + 2),
        )
        inside = self._vtable + self._fields <= len(data) and place + self._size <= len(data)
        if (
            self._fields < 4
            or self._fields % 2
            or self._size < 4
            or not inside
            or place % 4
            or self._vtable % 2
        ):
            raise Damaged("a table is not within it")

    @classmethod
    def root(cls, data: bytes) -> Table:
        """The first table, to which the first four bytes point."""
        return cls(data, _number(data, "I", 0))

    def number(self, field: int, kind: str, default: Any = 0) -> Any:
        """A scalar; kinds are those of `struct`, little endian."""
        place = self._of(field, struct.calcsize(kind))
        return default if place is None else _number(self._data, kind, place)

    def has(self, field: int) -> bool:
        return self._of(field, 1) is not None

    def table(self, field: int) -> Table | None:
        place = self._target(field)
        return None if place is None else Table(self._data, place)

    def tables(self, field: int) -> list[Table]:
        """The tables of a vector, none where it is absent."""
        offsets = self.vector(field, np.uint32)
        if offsets is None:
            return []
        if len(offsets) > _MOST:
            raise Damaged(f"it says to have {len(offsets)} parts of one kind")
        first = self._start(field)
        return [
            Table(self._data, first + 4 * number + int(offset))
            for number, offset in enumerate(offsets)
        ]

    def vector(self, field: int, dtype: Any) -> np.ndarray | None:
        """A vector of scalars; None where it is absent."""
        place = self._target(field)
        if place is None:
            return None
        count, width = _number(self._data, "I", place), np.dtype(dtype).itemsize
        start = place + 4
        if start + count * width > len(self._data) or start % min(width, 4):
            raise Damaged("a list is not within it")
        return np.frombuffer(self._data, np.dtype(dtype).newbyteorder("<"), count, start)

    def text(self, field: int) -> str:
        """A string, empty where it is absent."""
        content = self.vector(field, np.uint8)
        if content is None:
            return ""
        if self._start(field) + len(content) >= len(
            self._data
        ):  # readers rely on the zero behind it
            raise Damaged("a name is not within it")
        return content.tobytes().decode("utf-8", "replace")

    def _start(self, field: int) -> int:
        """Where the entries of a vector begin that is there."""
        return (self._target(field) or 0) + 4

    def _of(self, field: int, width: int) -> int | None:
        """Where a field of that width stands."""
        entry = 4 + 2 * field
        offset = _number(self._data, "H", self._vtable + entry) if entry + 2 <= self._fields else 0
        if offset and (offset < 4 or offset + width > self._size or (self._place + offset) % width):
            raise Damaged("a field is not within its table")
        return self._place + offset if offset else None

    def _target(self, field: int) -> int | None:
        """Where a field's offset leads to."""
        place = self._of(field, 4)
        return None if place is None else place + _number(self._data, "I", place)


def _number(data: bytes, kind: str, place: int) -> Any:
    if not 0 <= place <= len(data) - struct.calcsize(kind):
        raise Damaged("an offset leads out of it")
    return struct.unpack_from(f"<{kind}", data, place)[0]
