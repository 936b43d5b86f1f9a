"""Reads tables: CSV, TSV, whitespace-separated text, JSON lines, XLSX and Parquet.

Formulas and quotes in the cells of a text table are text. Rows are read one after the other, so a
large table needs little memory.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.pixels import SUFFIXES
from cxr_tfds.sources.archives import SourcePath
from cxr_tfds.sources.paths import join_names
from cxr_tfds.sources.tables.formats import (
    read_json_columns,
    read_json_rows,
    read_parquet_columns,
    read_parquet_rows,
    read_xlsx_rows,
)
from cxr_tfds.sources.tables.table import SAMPLE_ROWS, Rows, Table, is_blank, open_bytes
from cxr_tfds.text import plain_cell, printable

TABLE_SUFFIXES = frozenset(
    {".csv", ".tsv", ".tab", ".txt", ".json", ".jsonl", ".ndjson", ".xlsx", ".parquet"}
)
_MAGIC = {  # first bytes to format
    b"PK\3\4": "xlsx",
    b"PAR1": "parquet",
    b"\xd0\xcf\x11\xe0": "xls",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_MAGIC_BYTES = 4096
_WHITESPACE = ""
_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}  # of a table with one column
_END = "\ue000 end of table"  # a last line, which an open quotation mark would swallow


def open_table(path: SourcePath, name: str = "", wanted: Sequence[str] = ()) -> Table:
    """Returns a table and reads its first rows.

    Args:
      path: The file. Its first bytes decide the format, and its suffix if they do not.
      name: Name for messages; "" takes the path.
      wanted: Columns that the user gave. A number that the first row does not contain means that
        the table has no header.

    Raises:
      InputError: The file is unreadable, empty, not a table, or not in UTF-8; or a package is
        missing.
    """
    name = name or printable(path)
    with open_bytes(path) as file:
        head = file.read(_MAGIC_BYTES)
    suffix = PurePath(path.name.casefold().removesuffix(".gz")).suffix
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")
    if kind == "xls":
        raise InputError(f"{name} is an old Excel file (XLS). Save it as XLSX, or as CSV in UTF-8.")
    if not kind and suffix in (".xlsx", ".parquet"):
        raise InputError(f"{name} is not {suffix[1:].upper()}: corrupt first bytes. Copy it again.")
    if kind == "UTF-16" or (not kind and b"\0" in head):
        raise _not_utf8(name, head, 0 if kind else head.index(0), "UTF-16")
    if kind == "parquet":
        columns = read_parquet_columns(path, name)
        return _make_table(name, lambda: read_parquet_rows(path, name, columns), columns)
    if kind == "xlsx":
        notes: list[str] = []
        return _make_table(name, lambda: read_xlsx_rows(path, name, notes), (), wanted, notes)
    read_lines = functools.partial(_read_lines, path, name)
    if suffix in (".json", ".jsonl", ".ndjson"):
        columns = read_json_columns(read_lines(), name)
        return _make_table(name, lambda: read_json_rows(read_lines(), name, columns), columns)
    delimiter = _find_delimiter(list(itertools.islice(read_lines(), SAMPLE_ROWS)), suffix)
    return _make_table(name, lambda: _parse_lines(read_lines(), name, delimiter), (), wanted)


def read_list(path: SourcePath, name: str) -> list[tuple[int, str]]:
    """Returns each line of a list that is not blank, and its number."""
    lines = enumerate(_read_lines(path, name), start=1)
    rows = [(number, text.strip()) for number, text in lines if text.strip()]
    if not rows:
        raise InputError(f"{name} is empty. Expected the name of an image in each line.")
    return rows


def _make_table(
    name: str,
    read_rows: Callable[[], Rows],
    columns: Sequence[str],
    wanted: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Table:
    """Returns a table; without `columns` the first row is the header, unless it is data."""
    rows = [row for _, row in itertools.islice(read_rows(), SAMPLE_ROWS + 1)]
    if not rows and not columns:
        raise InputError(f"{name} is empty. Expected a table with a header and rows.")
    has_header = not columns and _is_header(rows[0], wanted)
    is_numbered = not columns and not has_header
    if has_header:
        columns = [cell.strip() for cell in rows.pop(0)]
    elif is_numbered:
        columns = [str(i + 1) for i in range(max(map(len, rows)))]
    if not rows:
        raise InputError(
            f"{name} has a header ({join_names(list(filter(None, columns)))}) but no rows. "
            "Expected one row for each image."
        )
    return Table(
        name,
        tuple(columns),
        lambda: itertools.islice(read_rows(), int(has_header), None),
        tuple(rows[:SAMPLE_ROWS]),
        is_numbered,
        tuple(dict.fromkeys(notes)),
    )


def _is_header(row: Sequence[str], wanted: Sequence[str]) -> bool:
    """Returns whether a first row has names of columns rather than the name of an image."""
    cells = [cell.strip() for cell in row]
    has_image = any(PurePath(cell).suffix.casefold() in SUFFIXES for cell in cells)
    return not has_image and all(name in cells or not name.isdecimal() for name in wanted)


def _find_delimiter(lines: Sequence[str], suffix: str) -> str:
    """Returns the delimiter that splits most rows into the same number of cells, if several."""
    best, found = (0.5, 1), ""
    for delimiter in ",;\t":
        reader = csv.reader(lines, delimiter=delimiter)
        try:
            widths = Counter(len(row) for row in reader if not is_blank(row))
        except csv.Error:
            continue
        for width, rows in widths.most_common(1):
            score = (rows / widths.total(), width)
            if width > 1 and score > best:
                best, found = score, delimiter
    return found or _DELIMITERS.get(suffix, _WHITESPACE)


def _parse_lines(lines: Iterator[str], name: str, delimiter: str) -> Rows:
    if delimiter == _WHITESPACE:
        yield from ((i, line.split()) for i, line in enumerate(lines, 1) if line.strip())
        return
    reader = csv.reader(itertools.chain(lines, [_END]), delimiter=delimiter)
    first = 1
    try:
        for row in reader:
            if row and row[-1].endswith(_END):
                if row != [_END]:
                    raise InputError(
                        f"{name}: the quotation mark in line {first} is not closed. Close it."
                    )
            elif not is_blank(row):
                has_quote = "'" in "".join(row)
                yield first, list(map(plain_cell, row)) if has_quote else row
            first = reader.line_num + 1
    except csv.Error as err:
        raise InputError(
            f"{name}, line {first}: {err}. Close the quotation mark, or save the table again."
        ) from err


def _read_lines(path: SourcePath, name: str) -> Iterator[str]:
    with io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="") as text:
        try:
            yield from text
        except UnicodeDecodeError:
            raise _explain_encoding(path, name) from None


def _explain_encoding(path: SourcePath, name: str) -> InputError:
    """Returns the error for the first byte of a table that is not UTF-8."""
    with open_bytes(path) as file:
        data = file.read()
    position = _find_undecodable(data, "utf-8")
    is_latin = _find_undecodable(data, "cp1252") == len(data)
    return _not_utf8(name, data, position, "WINDOWS-1252" if is_latin else "")


def _find_undecodable(data: bytes, encoding: str) -> int:
    try:
        data.decode(encoding)
    except UnicodeDecodeError as err:
        return err.start
    return len(data)


def _not_utf8(name: str, data: bytes, position: int, encoding: str) -> InputError:
    """Returns the error for a byte, with a command if the encoding of the table is known."""
    line = data.count(b"\n", 0, position) + 1
    problem = f"{name}, line {line}: byte {position:,} (0x{data[position]:02X}) is not UTF-8"
    if not encoding:
        return InputError(f"{problem}. Save the table as UTF-8.")
    file = PurePath(name)
    new = file.with_name(f"{file.stem}-utf8{file.suffix}").name
    likely = {"WINDOWS-1252": "Latin-1 (Windows-1252)"}.get(encoding, encoding)
    return InputError(
        f"{problem}; it looks like {likely}. "
        f"Save it as UTF-8: iconv -f {encoding} -t UTF-8 '{file.name}' > '{new}'"
    )
