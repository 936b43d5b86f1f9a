"""Reads the rows of a table and finds their images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.sources.paths import NEW_ROW, SPLIT_NAMES, join_names, printable
from cxr_tfds.sources.settings import ReaderSettings, propose_config
from cxr_tfds.sources.tables.columns import Columns
from cxr_tfds.sources.tables.files import SourceFiles, clean_name
from cxr_tfds.sources.tables.table import Table

_MAX_NAMES = 10  # in a message


class Row(NamedTuple):
    """A row of a table, with the texts that occur in many rows stored once."""

    table: int  # position of the table
    line: int
    image: int  # position of the image, -1 if it does not exist
    name: str  # the name, if the image does not exist
    label: tuple[str, ...]
    patient: str
    split: str  # as the table has it


class RowReader:
    """Reads tables and finds the images of their rows.

    Attributes:
      rows: The rows whose image exists.
      missing: The rows whose image does not exist.
    """

    def __init__(
        self, images: SourceFiles, excluded: SourceFiles, settings: ReaderSettings
    ) -> None:
        self.rows: list[Row] = []
        self.missing: list[Row] = []
        self._images = images
        self._excluded = excluded
        self._settings = settings
        self._unclear: list[str] = []
        self._loose: list[Row] = []
        self._accepted: dict[str, int] = {}  # name to position, of loose matches
        self._texts: dict[Any, Any] = {}

    def read(self, number: int, table: Table, columns: Columns, folder: str, split: str) -> None:
        """Reads a table.

        Args:
          number: Position of the table.
          table: The table.
          columns: Its columns.
          folder: Folder of the table below the source.
          split: Split of all rows; "" to read the column.

        Raises:
          InputError: A path leads out of the source, or two images match a row.
        """
        patient = columns.image if columns.patient is None else columns.patient
        split_column = columns.image if columns.split is None else columns.split
        positions = [columns.image, patient, split_column, *columns.labels]
        share = self._texts.setdefault
        unique_names = self._images.unique_names
        for line, cells in table.read_columns(positions):
            name = cells[0]
            image = unique_names.get(name)
            rows, is_loose = self.rows, False
            if image is None:
                image, is_loose = self._find(name, folder, f"{table.name}, line {line}")
                if image is None:
                    continue
                rows = self._loose if is_loose else self.rows if image >= 0 else self.missing
            label = tuple(cells[3:])
            row = Row(
                number,
                line,
                image,
                name if is_loose or image < 0 else "",
                share(label, label),
                share(cells[1], cells[1]) if columns.patient is not None else "",
                split or (share(cells[2], cells[2]) if columns.split is not None else ""),
            )
            rows.append(row)
        self._check()

    def accept_loose_matches(self) -> None:
        """Accepts the rows whose path ends like an image, unless several paths end like it.

        Of the rows p1/view.png and p2/view.png none means the image other/view.png. Such rows count
        as missing.
        """
        names: dict[int, set[str]] = {}
        for row in self._loose:
            names.setdefault(row.image, set()).add(row.name)
        for row in self.rows:
            if row.image in names:
                names[row.image].add("")
        for row in self._loose:
            if len(names[row.image]) == 1:
                self._accepted[row.name] = row.image
                self.rows.append(row._replace(name=""))
            else:
                self.missing.append(row._replace(image=-1))
        self._loose.clear()

    def find_listed(self, name: str, folder: str, where: str) -> int | None:
        """Returns the position of an image, -1 if it does not exist, None if it is left out.

        Raises:
          InputError: The path leads out of the source, or two images match.
        """
        position, is_loose = self._find(name, folder, where)
        self._check()
        return self._accepted.get(name, -1) if is_loose else position

    def _find(self, name: str, folder: str, where: str) -> tuple[int | None, bool]:
        """Returns the position as `find_listed`, and whether only the end of the path matches."""
        name = clean_name(name, where)
        if not name:
            return -1, False
        found = self._images.find(name, folder)
        if len(found) == 1:
            return found[0], False
        if found:
            if len(self._unclear) < _MAX_NAMES:
                paths = [self._images.files[i].inner_path for i in found]
                self._unclear.append(f"{where}: {join_names(paths)}")
            return None, False
        if self._excluded.find(name, folder):
            return None, False
        ends = self._images.find_loosely(name, folder)
        if not ends and self._excluded.find_loosely(name, folder):
            return None, False
        return (ends[0], True) if len(ends) == 1 else (-1, False)

    def _check(self) -> None:
        """Raises InputError if two images match a row."""
        if self._unclear:
            raise InputError(
                "Rows for which two or more images match:\n  "
                f"{join_names(self._unclear, NEW_ROW)}\n"
                "Write the path of the image in the table, or leave a folder out with the setting "
                f"exclude: --config {propose_config(self._settings, exclude=['FOLDER/*'])}"
            )


def parse_split(text: str) -> str | None:
    """Returns the split that a text means, such as train or fold:0, or None if it means none."""
    name = text.casefold()
    fold = name.removeprefix("fold").lstrip(" _-:")
    return f"fold:{int(fold)}" if fold.isdecimal() else SPLIT_NAMES.get(name)


def describe_missing(rows: Sequence[Row], tables: Sequence[Table]) -> list[str]:
    """Returns the image name, table and line of each row whose image does not exist."""
    return [
        f"{printable(row.name) or '(empty)'} ({tables[row.table].name}, line {row.line})"
        for row in rows
    ]


def group_rows(rows: Sequence[Row]) -> dict[int, list[Row]]:
    """Returns position of the image to its rows."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.image, []).append(row)
    return groups
