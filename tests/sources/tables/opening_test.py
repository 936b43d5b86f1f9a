"""Tables: formats, delimiters, headers, encodings, and what is refused."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.sources.tables.opening import open_table, read_list
from cxr_tfds.sources.tables.table import Table

HEADER = ["image", "label", "age"]
ROWS = [["a.png", "Normal", "40"], ["b.png", "Effusion", "7"]]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(table: Table) -> list[list[str]]:
    return [cells for _, cells in table.read_columns(range(len(table.columns)))]


def write_xlsx(path: Path, *sheets: list[list[Any]]) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for i, rows in enumerate(sheets):
        sheet = book.create_sheet(f"Sheet {i}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_recognizes_delimiters(tmp_path: Path, delimiter: str, suffix: str, end: str) -> None:
    text = "\ufeff" + end.join(map(delimiter.join, [HEADER, *ROWS]))
    table = open_table(write(tmp_path / f"t{suffix}", text))
    assert list(table.columns) == HEADER
    assert read(table) == ROWS
    assert read(table) == ROWS  # a table can be read again


def test_delimiter_is_the_consistent_one(tmp_path: Path) -> None:
    text = "image;age;label\na.png;0,5;x\nb.png;1,5;y\n"
    assert open_table(write(tmp_path / "t.csv", text)).columns == ("image", "age", "label")


def test_text_without_header_has_numbered_columns(tmp_path: Path) -> None:
    table = open_table(write(tmp_path / "t.txt", "0 a.png positive rsna\n1 b.png negative x\n"))
    assert table.is_numbered
    assert table.columns == ("1", "2", "3", "4")
    assert list(table.read_columns([1, 2])) == [
        (1, ["a.png", "positive"]),
        (2, ["b.png", "negative"]),
    ]


def test_given_number_means_that_there_is_no_header(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "17,positive\n18,negative\n")
    assert open_table(path).columns == ("17", "positive")
    assert open_table(path, wanted=["2"]).columns == ("1", "2")
    named = write(tmp_path / "n.csv", "image,1,2\na,0,1\n")
    assert open_table(named, wanted=["2"]).columns == ("image", "1", "2")


def test_cells_are_text(tmp_path: Path) -> None:
    text = 'image,label\n"a, ""b"".png","=1+1"\n\'c\'.png, @SUM(A1) \n"d\ne.png",\n,,\n'
    table = open_table(write(tmp_path / "t.csv", text))
    assert list(table.read_columns([0, 1])) == [
        (2, ['a, "b".png', "=1+1"]),
        (3, ["'c'.png", "@SUM(A1)"]),
        (4, ["d\ne.png", ""]),
    ]


def test_short_rows_end_with_empty_cells_and_long_rows_are_refused(tmp_path: Path) -> None:
    table = open_table(write(tmp_path / "t.csv", "image,label,age\na.png\nb.png,x,1,,\n"))
    assert read(table) == [["a.png", "", ""], ["b.png", "x", "1"]]
    table = open_table(write(tmp_path / "t.csv", "image,label\na.png,x\nb.png,Mass, left\n"))
    with pytest.raises(InputError, match=r"t.csv, line 3: 3 cells, but the table has 2 columns"):
        read(table)


def test_json_lines(tmp_path: Path) -> None:
    rows = [
        {"image": "a.png", "label": ["A", "B"], "x": 1.0},
        {"image": "b.png", "late": None, "x": True, "y": 0.5, "z": float("nan")},
    ]
    table = open_table(write(tmp_path / "t.jsonl", "\n\n".join(map(json.dumps, rows))))
    assert table.columns == ("image", "label", "x", "late", "y", "z")
    assert read(table) == [
        ["a.png", "A|B", "1", "", "", ""],
        ["b.png", "", "True", "", "0.5", ""],
    ]


def test_xlsx(tmp_path: Path) -> None:
    rows: list[list[Any]] = [
        HEADER,
        ["a.png", "Normal", 40.0],
        [None, None, None],
        ["b.png", None, 7],
    ]
    table = open_table(write_xlsx(tmp_path / "t.xlsx", [], rows, [["other"]]))
    assert read(table) == [["a.png", "Normal", "40"], ["b.png", "", "7"]]
    assert [line for line, _ in table.read_columns([0])] == [2, 4]
    assert "reads the sheet 'Sheet 1' only" in table.notes[0]
    # The content decides, not the suffix.
    renamed = (tmp_path / "t.xlsx").rename(tmp_path / "t.csv")
    assert read(open_table(renamed)) == [["a.png", "Normal", "40"], ["b.png", "", "7"]]


def test_parquet_without_columns_of_bytes(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "image": ["a.png", "b.png"],
        "bytes": [b"x", b"y"],
        "labels": [["A", "B"], []],
        "target": [1.0, None],
        "positive": [True, False],
    }
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    table = open_table(tmp_path / "t.parquet")
    assert table.columns == ("image", "labels", "target", "positive")
    assert read(table) == [["a.png", "A|B", "1", "True"], ["b.png", "", "", "False"]]


def test_gzip(tmp_path: Path) -> None:
    data = gzip.compress(b"image,label\na.png,x\n")
    assert read(open_table(write(tmp_path / "t.csv.gz", data))) == [["a.png", "x"]]
    with pytest.raises(InputError, match=r"Cannot read .*t.csv.gz"):
        open_table(write(tmp_path / "t.csv.gz", data[:-12]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "t.csv is empty. Expected a table with a header and rows"),
        ("t.csv", b"\xef\xbb\xbf \n", "is empty"),
        ("t.csv", b"image,label\n", r"has a header \(image, label\) but no rows"),
        ("t.csv", b"image,label\n\n,\n", "but no rows"),
        (
            "t.csv",
            "image,label\na.png,Pneumonía\n".encode("latin-1"),
            r"t.csv, line 2: byte 25 \(0xED\) is not UTF-8; it looks like Latin-1 .*iconv -f "
            "WINDOWS-1252 -t UTF-8 't.csv' > 't-utf8.csv'",
        ),
        ("t.csv", b"image,label\na.png,\x81\n", r"line 2: byte 18 \(0x81\) is not UTF-8. Save"),
        (
            "t.csv",
            "image,label\na.png,x\n".encode("utf-16"),
            r"byte 0 \(0xFF\) is not UTF-8; it looks like UTF-16. .*iconv -f UTF-16",
        ),
        ("t.csv", "image,label\n".encode("utf-16-le"), r"byte 1 \(0x00\) is not UTF-8; .*UTF-16"),
        ("t.csv", b'image,label\na,"x\nb,y\nc,z\n', "quotation mark in line 2 is not closed"),
        ("t.xls", b"\xd0\xcf\x11\xe0" + bytes(600), "old Excel file"),
        ("t.xlsx", b"PK\3\4not a table", "t.xlsx is a corrupt XLSX file. Copy it again"),
        ("t.xlsx", b"image,label\na,b\n", "t.xlsx is not XLSX: corrupt first bytes"),
        ("t.parquet", b"PAR1" + bytes(60), "t.parquet is a corrupt Parquet file"),
        ("t.jsonl", b'{"image": "a"}\n{"image"\n', "t.jsonl, line 2: not a JSON object"),
        ("t.jsonl", b"[1]\n", "Expected one object in each line"),
    ],
)
def test_refuses(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read(open_table(write(tmp_path / name, content), name))
    assert "Error" not in str(error.value)


def test_names_the_byte_behind_the_first_buffer(tmp_path: Path) -> None:
    good = b"image,label\n" + b"a.png,x\n" * 40_000
    table = open_table(write(tmp_path / "t.csv", good + b"b.png,\xe9\n"), "t.csv")
    with pytest.raises(InputError, match=f"line 40,?002: byte {len(good) + 6:,} "):
        read(table)


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
def test_refuses_incomplete_xlsx(tmp_path: Path, cut: float) -> None:
    data = write_xlsx(tmp_path / "t.xlsx", [HEADER, *ROWS * 50]).read_bytes()
    with pytest.raises(InputError, match="corrupt XLSX"):
        read(open_table(write(tmp_path / "t.xlsx", data[: int(len(data) * cut)])))


@pytest.mark.parametrize("package", ["openpyxl", "pyarrow"])
def test_names_the_extra_of_a_missing_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for module in [*filter(lambda name: name.split(".")[0] == package, sys.modules), package]:
        monkeypatch.setitem(sys.modules, module, None)
    name, head = ("t.xlsx", b"PK\3\4") if package == "openpyxl" else ("t.parquet", b"PAR1")
    with pytest.raises(InputError, match=rf"{package}. .*pip install 'cxr-tfds\[train\]'"):
        open_table(write(tmp_path / name, head))


def test_reads_large_tables_row_by_row(tmp_path: Path) -> None:
    rows = (f"{i}.png,x\n" for i in range(200_000))
    table = open_table(write(tmp_path / "t.csv", "image,label\n" + "".join(rows)))
    assert len(table.sample) == 100
    count = 0
    for line, (name, _) in table.read_columns([0, 1]):
        assert name == f"{line - 2}.png"
        count += 1
    assert count == 200_000


def test_lists(tmp_path: Path) -> None:
    path = write(tmp_path / "train list.txt", "a b.png\n\n c.png \r\n")
    assert read_list(path, "list") == [(1, "a b.png"), (3, "c.png")]
    with pytest.raises(InputError, match="list is empty"):
        read_list(write(path, "\n"), "list")
