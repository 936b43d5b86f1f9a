"""Hostile file names and labels through every writer: no row, link, formula or code is forged."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from jinja2 import Template
from markdown_it import MarkdownIt

from cxr_tfds.building.build_report import format_report, write_report
from cxr_tfds.commands.base import Command, print_notice
from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.export.edge.app import markup
from cxr_tfds.export.edge.html_page import PredictionPage
from cxr_tfds.export.edge.model_info import ModelInfo
from cxr_tfds.export.edge.output import format_fields, make_style
from cxr_tfds.export.edge.prediction import Prediction
from cxr_tfds.looking.contact_sheet import Cell, Row, write_sheet
from cxr_tfds.report.model_card import Section
from cxr_tfds.report.page import _load_templates
from cxr_tfds.sources.tables.opening import open_table
from cxr_tfds.text import (
    csv_line,
    html,
    markdown,
    plain_cell,
    plain_markdown,
    printable,
    text_table,
    to_json,
)

ROOT = Path(__file__).parents[1]
NAMES = {
    "rows": "x.png\nNORMAL  1 % (predicted from 50 %) → NORMAL  y.png",
    "carriage return": "PNEUMONIA\rNORMAL",
    "terminal": "\x1b[2J\x1b[31mx\x07.png",
    "8-bit terminal": "\x9b2Jx.png",
    "line separator": "a\u2028b\u2029c\x85d.png",
    "direction": "gnp.\u202ex\u2066y.png",
    "formula": "=HYPERLINK(\"http://x\",\"y\")",
    "formula of commands": "@SUM(1+1)*cmd|' /C calc'!A0",
    "plus": "+1+2.png",
    "minus": "-2+3.png",
    "full-width": "\uff1d1+1",
    "tab": "\t=1+1.png",
    "apostrophe": "'=1+1",
    "comma": 'a,"b;c',
    "cells": "a|b||c.png",
    "code": "`a` ``b``.png",
    "link": "[x](http://evil.example/).png",
    "image": "![x](//evil.example/y).png",
    "reference": "<http://evil.example>&lt;",
    "emphasis": "_a_ **b** ~~c~~ a_b_c.png",
    "heading": "# x",
    "list": "- 1. x",
    "backslash": "a\\nb\\|c.png",
    "script": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "attribute": "\" onmouseover='x' y=\"",
    "template": "{{ 7 * 7 }}{% raw %}",
    "bytes": "\udcff\udc80.png",
    "emoji and bytes": "😀\udcff.png",
    "accents": "Pneumonía 肺炎.png",
}  # fmt: skip
REASON = "is not an image\n<b>|`x`"


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return NAMES[request.param]


def get_label(name: str) -> str:
    """Returns the name as a label, which has one line in every model."""
    return name if len(name.splitlines()) == 1 else printable(name)


def predictions(name: str) -> Iterator[tuple[str, Prediction | BadImage]]:
    label = get_label(name)
    yield name, Prediction(0.9, label, 0.5, {"NORMAL": 0.1, label: 0.9})
    yield name, BadImage(REASON)


def model_info(name: str) -> ModelInfo:
    return ModelInfo(
        labels=("NORMAL", get_label(name)),
        size=32,
        channels=1,
        fit="stretch",
        threshold=0.5,
        temperature=1.0,
        quantization="int8",
        dataset={},
        run={},
        metrics={},
    )


def has_only_printable_lines(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n")) and text.encode() != b""


def test_terminal(name: str) -> None:
    style = make_style("text", model_info(name))
    for file, result in predictions(name):
        text = style.format(file, result)
        assert text.count("\n") == 1
        assert has_only_printable_lines(text)
        assert printable(name) in text
    stream = io.StringIO()
    print_notice("Error:", "red", f"{name.replace(chr(10), '')}: bad", stream)
    assert has_only_printable_lines(stream.getvalue())
    for text in (text_table([(name, name)]), format_fields({name: name})):
        assert text.isprintable()


def test_logs_and_errors_of_a_command(name: str, caplog: pytest.LogCaptureFixture) -> None:
    # A message may have several lines. `walk_files` refuses names that do.
    name = name.replace("\n", "")

    @click.command(cls=Command)
    def fail() -> None:
        logging.getLogger("cxr_tfds.test").warning("Ignored: %s", name)
        raise InputError(f"{name} is empty.")

    factory = logging.getLogRecordFactory()
    try:
        done = CliRunner().invoke(fail)
    finally:
        logging.setLogRecordFactory(factory)
    assert caplog.messages == [f"Ignored: {printable(name)}"]
    assert done.exit_code == 1
    assert has_only_printable_lines(done.stderr)
    assert f"Error: {printable(name)} is empty.\n" in done.stderr


def test_json(name: str) -> None:
    style = make_style("json", model_info(name))
    for file, result in predictions(name):
        text = style.format(file, result)
        assert text.isascii()
        assert text.isprintable()
        row = json.loads(text)
        assert row["file"].encode()  # no parser meets a lone surrogate
        # Only what is not UTF-8 is not the name itself.
        is_text = name.encode(errors="ignore").decode() == name
        assert (row["file"] == name) == is_text
        assert row["file"].replace("\\udcff", "\udcff").replace("\\udc80", "\udc80") == name
        assert "error" in row or row["probabilities"].keys() == {"NORMAL", row["label"]}
    assert json.loads(to_json({name: [name]}, indent=2))


def test_csv(name: str, tmp_path: Path) -> None:
    style = make_style("csv", model_info(name))
    text = "".join([*style.frame, *(style.format(*pair) for pair in predictions(name))])
    assert has_only_printable_lines(text)
    header, *rows = csv.reader(io.StringIO(text))
    assert text.count("\n") == 1 + len(rows) == 3
    assert {len(row) for row in rows} == {len(header)}
    for row in (header, *rows):
        assert not [cell for cell in row if re.match(r"[=@\t\r\uff1d]|[+-](?![\d.e+-]*$)", cell)]
    assert plain_cell(rows[0][0]) == plain_cell(rows[0][1]) == printable(name)
    (tmp_path / "t.csv").write_text(f"image,label\n{csv_line([name, name])}", encoding="utf-8")
    table = open_table(tmp_path / "t.csv")
    assert [row for _, row in table.read_rows()] == [[printable(name)] * 2]


def test_csv_leaves_numbers_unchanged() -> None:
    assert csv_line([-1.5, 2, "-3", "+4e5", "1-2", ""]) == "-1.5,2,-3,+4e5,1-2,\n"


class Tags(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {key for key, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def check_html(content: str, name: str) -> None:
    assert content.encode()
    assert has_only_printable_lines(content)
    page = Tags(content)
    assert "script" not in page.tags
    assert not [key for key in page.attributes if key.startswith("on")]
    # A template keeps the line breaks of a text, which HTML shows as spaces.
    shown = page.text.replace("\n", "\\n")
    assert printable(name).split(" ", maxsplit=1)[0] in shown


def test_html_of_predictions(name: str, tmp_path: Path) -> None:
    pixels = b"P5 40 30 255 " + bytes(range(40)) * 30
    with PredictionPage(tmp_path / "page.html", model_info(name), name) as page:
        for _, result in predictions(name):
            page.add(page.make_card(f"ward/{name}", pixels, result))
    check_html((tmp_path / "page.html").read_text(encoding="utf-8"), name)
    assert html(name) in markup.escape(name).replace("&nbsp;%", " %")


def test_html_of_a_contact_sheet(name: str, tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 1), np.uint8)
    rows = [Row(name, [Cell(pixels, name, name), Cell(None, name, REASON)])]
    write_sheet(rows, tmp_path / "sheet.html", name)
    check_html((tmp_path / "sheet.html").read_text(encoding="utf-8"), name)
    write_sheet(rows, tmp_path / "sheet.png", name)


@pytest.fixture(scope="module")
def templates() -> tuple[Template, Template]:
    return _load_templates()


def test_templates_of_the_report(name: str, templates: tuple[Template, Template]) -> None:
    page, card = templates
    content = page.environment.from_string("<p title='{{ x }}'>{{ x }}</p>").render(x=name)
    check_html(content, name)
    text = card.render(run=name, sections=[Section(name, [f"{name}: AUC 0.9"])])
    assert has_only_printable_lines(text)
    title, section, point = read_markdown(text)
    assert (title, section) == (f"Model card: {printable(name)}", printable(name).strip())
    assert point == f"{printable(name)}: AUC 0.9"
    assert Tags(markup.model_card(text)).tags <= {"div", "h3", "ul", "li"}
    assert printable(name) in "".join(map(plain_markdown, text.splitlines()))


def read_markdown(text: str) -> list[str]:
    """Returns the text of each block. Only titles, lists and tables of plain text are allowed."""
    allowed = {"text", "softbreak"}
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    blocks = parser.parse(text)
    assert {token.type.partition("_")[0] for token in blocks} <= {
        "heading", "paragraph", "inline", "bullet", "list", "table", "thead", "tbody", "tr", "th",
        "td",
    }  # fmt: skip
    found = []
    for token in blocks:
        if token.type == "inline":
            children = token.children or []
            assert {child.type for child in children} <= allowed, token.content
            found.append("".join(child.content or "\n" for child in children))
    return found


def test_build_report(name: str, tmp_path: Path) -> None:
    report = {
        "dataset": f"{name}/x:1.0.0",
        "splits": {
            "train": {
                "images": 2, "classes": {"NORMAL": 1, name: 1},
                "findings": {name: 1, "none": 1}, "patients": 1, "images_without_patient": 0,
            }
        },
        "max_examples_per_split": None,
        "notes": [f"Left out: {printable(name)}."],
        "shortcuts": [{"text": f"width alone predicts {name}"}],
        "pixels": {},
        "duplicates": {
            "groups": 1, "images": 2, "within_split": 1, "across_splits": [[name, "y"]],
            "across_classes": [],
        },
        "near_duplicates": [[name, "y"]],
        "patients": {
            "in_two_splits": {name: ["train", "test"]}, "in_two_splits_of_the_source": {},
        },
        "bad_images": {name: REASON},
    }  # fmt: skip
    write_report(report, tmp_path)
    text = (tmp_path / "build_report.md").read_text(encoding="utf-8")
    assert has_only_printable_lines(text)
    blocks = read_markdown(text)
    shown = printable(name)
    assert blocks[0] == f"{shown}/x:1.0.0"
    assert blocks.count(shown.strip()) == 2  # the columns of the class and the finding
    for row in (
        f"{shown} = y", f"{shown} ~ y", f"{shown}: train and test",
        f"{shown}: {printable(REASON)}", f"width alone predicts {shown}",
    ):  # fmt: skip
        assert row in blocks
    with (tmp_path / "bad_images.csv").open(encoding="utf-8", newline="") as file:
        (_, (image_id, reason)) = csv.reader(file)
    assert (plain_cell(image_id), reason) == (shown, printable(REASON))
    read = json.loads((tmp_path / "build_report.json").read_text(encoding="utf-8"))
    assert len(read["bad_images"]) == 1
    assert has_only_printable_lines(format_report(report))


def test_the_escapers_are_the_only_ones() -> None:
    """Writers use `cxr_tfds.text`; what is allowed writes no names or escapes for no medium."""
    other = re.compile(
        r"from html import|^import html\b|html\.escape|csv\.writer|DictWriter|[^\w.]ascii\(|!a\}"
        r"|unicode_escape|backslashreplace|json\.dumps\(|format_filename|autoescape"
        r"|surrogateescape|ensure_ascii",
        re.MULTILINE,
    )
    allowed = {
        "cxr_tfds/run_folder.py: DictWriter",  # numbers
        "cxr_tfds/commands/base.py: backslashreplace",  # characters that stdout lacks
        "cxr_tfds/sources/archives/tar.py: surrogateescape",  # reads names
        "cxr_tfds/building/source_record.py: surrogateescape",  # a digest
        "cxr_tfds/building/build.py: json.dumps(",  # a digest
        "cxr_tfds/building/shards.py: json.dumps(",  # a digest
        "cxr_tfds/building/config.py: json.dumps(",  # a part of a message
        "cxr_tfds/sources/config_json.py: json.dumps(",  # a part of a command
        "cxr_tfds/sources/config_json.py: ensure_ascii",
        "cxr_tfds/building/beam.py: json.dumps(",  # read back by the same build
        "cxr_tfds/locks.py: json.dumps(",  # read back by a command that waits
        "cxr_tfds/reading/fingerprint.py: json.dumps(",  # a digest
        "export/edge/model_file.py: json.dumps(",  # a digest
        "cxr_tfds/looking/contact_sheet.py: autoescape",  # with `finalize_html`
        "cxr_tfds/report/page.py: autoescape",
    }
    found = {
        f"{path.relative_to(ROOT)}: {match[0].strip()}"
        for folder in ("cxr_tfds", "export", "builders")
        for path in (ROOT / folder).rglob("*.py")
        if not path.name.endswith("_test.py") and path != ROOT / "cxr_tfds/text.py"
        for match in other.finditer(path.read_text(encoding="utf-8"))
    }
    assert found - allowed == set()


def test_markdown_is_read_back() -> None:
    for name in NAMES.values():
        assert plain_markdown(markdown(name)) == printable(name)
