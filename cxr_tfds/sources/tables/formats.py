"""Reads JSON lines, XLSX and Parquet into rows of text.

All functions raise InputError if the file is corrupt or the package that reads it is missing.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

from cxr_tfds.errors import InputError
from cxr_tfds.sources.archives.path import MAX_ENTRY_BYTES, SourcePath
from cxr_tfds.sources.tables.table import Rows, is_blank, open_bytes

_CHUNK_ROWS = 1000


def read_json_columns(lines: Iterator[str], name: str) -> list[str]:
    """Returns the keys of all objects in a file with one JSON object in each line."""
    columns: dict[str, None] = {}
    for _, values in _parse_json(lines, name):
        columns.update(dict.fromkeys(values))
    return list(columns)


def read_json_rows(lines: Iterator[str], name: str, columns: Sequence[str]) -> Rows:
    """Yields the values of each object as text. Lists are joined with "|"."""
    for line, values in _parse_json(lines, name):
        yield line, [_format_value(values.get(column)) for column in columns]


def _parse_json(lines: Iterator[str], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        reason = ""
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as err:
            values, reason = None, f" ({err})"
        if not isinstance(values, dict):
            raise InputError(
                f"{name}, line {number}: not a JSON object{reason}. Expected one object in each "
                'line, such as {"image": "a.png", "label": "Normal"}.'
            )
        yield number, values


def read_xlsx_rows(path: SourcePath, name: str, notes: list[str]) -> Rows:
    """Yields the rows of the first sheet that is not empty, with the values of formulas.

    A note names the sheet if there are several.
    """
    openpyxl = _import_reader("openpyxl", name)
    with open_bytes(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                size = sum(info.file_size for info in archive.infolist())
            if size > MAX_ENTRY_BYTES:
                raise InputError(f"{name} has {size:,} bytes of XML. Save the table as CSV.")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about styles, which are not read
                book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheets = book.worksheets
            for sheet in sheets:
                sheet.reset_dimensions()  # some programs write wrong ones, which hide rows
                rows = _read_sheet(sheet)
                if first := next(rows, None):
                    if len(sheets) > 1:
                        notes.append(f"{name}: reads the sheet {sheet.title!r} only.")
                    yield first
                    yield from rows
                    break
        except InputError:
            raise
        except Exception as err:  # openpyxl documents none, and raises any on corrupt XML
            raise InputError(
                f"{name} is a corrupt XLSX file. Copy it again, or save the table as CSV in UTF-8."
            ) from err


def _read_sheet(sheet: Any) -> Rows:
    rows = enumerate(sheet.iter_rows(values_only=True), start=1)
    while True:
        # No filter of warnings may stay active while the caller works.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about drop-down lists, which are not read
            chunk = list(itertools.islice(rows, _CHUNK_ROWS))
        if not chunk:
            return
        for number, values in chunk:
            row = list(map(_format_value, values))
            if not is_blank(row):
                yield number, row


def read_parquet_columns(path: SourcePath, name: str) -> list[str]:
    """Returns the columns of a Parquet file that have text, numbers or lists of them.

    Columns of bytes and structures, such as encoded images, are ignored.
    """
    with _open_parquet(path, name) as (table, types):
        checks = [types.is_binary, types.is_large_binary, types.is_struct, types.is_map]
        return [f.name for f in table.schema_arrow if not any(check(f.type) for check in checks)]


def read_parquet_rows(path: SourcePath, name: str, columns: Sequence[str]) -> Rows:
    """Yields the rows of a Parquet file as text."""
    with _open_parquet(path, name) as (table, _):
        rows = (
            list(map(_format_value, values))
            for batch in table.iter_batches(columns=list(columns))
            for values in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        )
        yield from enumerate(rows, start=1)


@contextlib.contextmanager
def _open_parquet(path: SourcePath, name: str) -> Iterator[tuple[Any, Any]]:
    """Yields the opened file and the module `pyarrow.types`."""
    parquet = _import_reader("pyarrow.parquet", name)
    types = _import_reader("pyarrow.types", name)
    with open_bytes(path) as file:
        try:
            yield parquet.ParquetFile(file), types
        except InputError:
            raise
        except Exception as err:  # pyarrow raises many kinds
            raise InputError(f"{name} is a corrupt Parquet file. Copy it again.") from err


def _import_reader(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as err:
        package = module.partition(".")[0]
        raise InputError(
            f"{name} needs the package {package}. "
            "Install it with: pip install 'cxr-tfds[train]', or save the table as CSV in UTF-8."
        ) from err


def _format_value(value: Any) -> str:
    """Returns a value as the text that a CSV would have: 1.0 is "1", lists are joined with "|"."""
    if value is None or value != value:  # NaN differs from itself
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | tuple):
        return "|".join(map(_format_value, value))
    return str(value)
