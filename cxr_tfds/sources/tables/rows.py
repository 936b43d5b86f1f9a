"""Reads the rows of a table and finds their images."""

from __future__ import annotations

from typing import Any, NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.sources.config_json import propose_config
from cxr_tfds.sources.paths import NEW_ROW, join_names
from cxr_tfds.sources.tables.columns import Columns
from cxr_tfds.sources.tables.files import SourceFiles, clean_name
from cxr_tfds.sources.tables.table import Table

_MAX_NAMES = 10  # in a message
_MISSING = -1


class Row(NamedTuple):
    """A row of a table, with the texts that occur in many rows stored once."""

    table: str  # its name
    line: int
    image: int  # position of the image, -1 if it does not exist
    name: str  # the name, if the image does not exist
    label: tuple[str, ...]
    patient: str
    split: str  # as the table has it

    @property
    def place(self) -> str:
        """Table and line, for messages."""
        return f"{self.table}, line {self.line}"


class RowReader:
    """Reads tables and finds the images of their rows."""

    def __init__(self, images: SourceFiles, excluded: SourceFiles) -> None:
        self.rows: list[Row] = []  # whose image exists
        self.missing: list[Row] = []  # whose image does not exist
        self._images = images
        self._excluded = excluded
        self._unclear: list[str] = []
        self._loose: list[Row] = []
        self._accepted: dict[str, int] = {}  # name to position, of loose matches
        self._texts: dict[Any, Any] = {}

    def read(self, table: Table, columns: Columns, folder: str, split: str) -> None:
        """Reads a table in a `folder` of the source, all of a `split` unless it is "".

        Raises InputError if a path leads out of the source, or two images match a row.
        """
        optional = [i for i in (columns.patient, columns.split) if i is not None]
        has_patient, has_split = columns.patient is not None, columns.split is not None
        share = self._texts.setdefault
        unique_names = self._images.unique_names
        split_cell = len(optional)
        for line, cells in table.read_columns([columns.image, *optional, *columns.labels]):
            name = cells[0]
            rows, image, is_loose = self.rows, unique_names.get(name), False
            if image is None:
                image, is_loose = self._find(name, folder, f"{table.name}, line {line}")
                if image is None:
                    continue
                rows = self._loose if is_loose else self.missing if image == _MISSING else rows
            label = tuple(cells[split_cell + 1 :])
            patient = share(cells[1], cells[1]) if has_patient else ""
            own_split = share(cells[split_cell], cells[split_cell]) if has_split else split
            kept_name = "" if rows is self.rows else name
            label = share(label, label)
            rows.append(Row(table.name, line, image, kept_name, label, patient, own_split))
        self._check()

    def accept_loose_matches(self) -> None:
        """Accepts the rows whose path ends like an image, unless several paths end like it.

        Of the rows p1/view.png and p2/view.png none means the image other/view.png. Such rows count
        as missing.
        """
        names: dict[int, set[str]] = {row.image: set() for row in self._loose}
        for row in [*self._loose, *self.rows]:
            if row.image in names:
                names[row.image].add(row.name)
        for row in self._loose:
            if len(names[row.image]) == 1:
                self._accepted[row.name] = row.image
                self.rows.append(row._replace(name=""))
            else:
                self.missing.append(row._replace(image=_MISSING))

    def find_listed(self, name: str, folder: str, place: str) -> int | None:
        """Returns the position of an image, -1 if it does not exist, None if it is left out.

        Raises InputError if the path leads out of the source, or two images match.
        """
        position, is_loose = self._find(name, folder, place)
        self._check()
        return self._accepted.get(name, _MISSING) if is_loose else position

    def _find(self, name: str, folder: str, place: str) -> tuple[int | None, bool]:
        """Returns the position as `find_listed`, and whether only the end of the path matches."""
        name = clean_name(name, place)
        if not name:
            return _MISSING, False
        found = self._images.find(name, folder)
        if len(found) == 1:
            return found[0], False
        if found:
            if len(self._unclear) < _MAX_NAMES:
                paths = [self._images.files[i].inner_path for i in found]
                self._unclear.append(f"{place}: {join_names(paths)}")
            return None, False
        if self._excluded.find(name, folder):
            return None, False
        ends = self._images.find_loosely(name, folder)
        if not ends and self._excluded.find_loosely(name, folder):
            return None, False
        return (ends[0], True) if len(ends) == 1 else (_MISSING, False)

    def _check(self) -> None:
        """Raises InputError if two images match a row."""
        if self._unclear:
            raise InputError(
                "Rows for which two or more images match:\n  "
                f"{join_names(self._unclear, NEW_ROW)}\n"
                "Write the path of the image in the table, or leave a folder out with the setting "
                f"exclude: {propose_config(exclude=['FOLDER/*'])}"
            )
