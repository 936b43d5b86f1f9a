"""A table whose cells are text, and the bytes of its file."""

from __future__ import annotations

import dataclasses
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.sources.archives.path import MAX_ENTRY_BYTES, ArchivePath, SourcePath

SAMPLE_ROWS = 100  # from which delimiters and columns are recognized

Rows = Iterator[tuple[int, list[str]]]  # line, and one cell for each column


@dataclasses.dataclass(frozen=True)
class Table:
    """A table whose cells are all text.

    Attributes:
      name: Path for messages.
      columns: Names of the columns, or "1", "2", … if the table has no header.
      read_rows: Returns the rows from the first to the last.
      sample: The cells of the first rows.
      is_numbered: Whether the table has no header.
      notes: Remarks for the build report.
    """

    name: str
    columns: tuple[str, ...]
    read_rows: Callable[[], Rows]
    sample: tuple[list[str], ...]
    is_numbered: bool = False
    notes: tuple[str, ...] = ()

    def read_columns(self, positions: Sequence[int]) -> Rows:
        """Yields the line of each row that is not blank, and its cells in some of the columns.

        Raises InputError if a row has more cells than the table has columns.
        """
        width = len(self.columns)
        for line, row in self.read_rows():
            found = len(row)
            if found > width and not is_blank(row[width:]):
                raise InputError(
                    f"{self.name}, line {line}: {found} cells, but the table has {width} columns. "
                    "Put quotes around cells that contain the delimiter."
                )
            if found < width:
                row = [*row, *[""] * (width - found)]
            yield line, [row[i].strip() for i in positions]


EditTable = Callable[[Table], Table]


def is_blank(row: Sequence[str]) -> bool:
    """Returns whether all cells of a row are empty."""
    return not any(map(str.strip, row))


def open_bytes(path: SourcePath) -> BinaryIO:
    """Opens a file of a source, decompressed if its name ends with ".gz"."""
    try:
        file: BinaryIO
        file = io.BytesIO(path.read_bytes()) if isinstance(path, ArchivePath) else path.open("rb")
        if Path(path.name).suffix.casefold() != ".gz":
            return file
        with file, gzip.GzipFile(fileobj=file) as unzipped:
            data = unzipped.read(MAX_ENTRY_BYTES + 1)
    except (OSError, EOFError, zlib.error, BadImage) as err:
        reason = getattr(err, "strerror", None) or err
        raise InputError(f"Cannot read {path}: {reason}. Copy or download it again.") from err
    if len(data) > MAX_ENTRY_BYTES:
        raise InputError(f"{path} has over {MAX_ENTRY_BYTES:,} bytes. Extract it.")
    return io.BytesIO(data)
