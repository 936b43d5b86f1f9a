"""Text for people and for files: one escaper for each medium, suggestions, aligned tables.

File names and labels come from strangers. They reach a terminal through `printable`, Markdown
through `markdown`, HTML through `html`, CSV through `csv_line` and JSON through `to_json`, and no
other way: a name can then neither forge a row, a link or a formula, nor make a file invalid.
Standard library only.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

DISCLAIMER = (
    "Not a medical device. For research and teaching only. Not for diagnosis, screening or "
    "treatment."
)

_MAX_DIGITS = 15  # after the decimal point: float64 has no more
_SURROGATE = re.compile("[\ud800-\udfff]")
# What Markdown reads as code, a table cell, HTML, a link, emphasis or, at the start, as a block.
# An underscore within a word is none of these.
_MARKDOWN = re.compile(
    r"[\\`|<>\[\]*~]|(?<!\w)_|_(?!\w)|&(?=[#\w])|^[#+=-](?=[#=-]*(?:\s|$))|(?<=^\d)[.)](?=\s|$)"
)
_FORMULA = re.compile("'*[=+\\-@\uff1d\uff0b\uff0d\uff20]")  # also in their full-width forms
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def printable(text: object, keep: str = "") -> str:
    r"""Returns text as one line for a terminal.

    Every character that is not printable becomes its escape in Python, such as `\n`: line breaks,
    codes of terminals, marks that change the direction of text, bytes of names that are not UTF-8.

    Args:
      text: Any object; `str` is applied.
      keep: Characters to leave unchanged, such as a line break in a message of several lines.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        x if x.isprintable() or x in keep else x.encode("unicode_escape").decode() for x in text
    )


def markdown(text: object, keep: str = "") -> str:
    """Returns text that Markdown shows literally: no link with another text, no HTML, no table.

    It is one line except for the characters to `keep`, see `printable`.
    """
    return _MARKDOWN.sub(r"\\\g<0>", printable(text, keep))


def plain_markdown(text: str) -> str:
    """Returns the text that Markdown shows, of a text from `markdown`."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)


def html(text: object) -> str:
    """Returns text for HTML, as content of an element or of a quoted attribute."""
    from html import escape  # its table of entities takes a millisecond

    return escape(printable(text))


def finalize_html(value: object) -> object:
    """Returns a value for an HTML template, as Jinja's `finalize`; Jinja's autoescape follows."""
    return value if hasattr(value, "__html__") else printable(value, keep="\n")


def drawable(text: str) -> str:
    """Returns text for Pillow's font, which has the Latin letters only: accents are dropped."""
    letters = (x for x in unicodedata.normalize("NFKD", text) if not unicodedata.combining(x))
    return printable("".join(letters)).encode("latin-1", "backslashreplace").decode("latin-1")


def csv_line(cells: Iterable[object]) -> str:
    """Returns a line of CSV, with its line break. `plain_cell` returns the text of a cell.

    A text that a spreadsheet would run as a formula gets an apostrophe in front; a number does not.
    A cell has no line break, so a line is a row.
    """
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(map(_csv_cell, cells))
    return line.getvalue()


def _csv_cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def plain_cell(cell: str) -> str:
    """Returns the text of a cell, without the apostrophe that `csv_line` puts before a formula."""
    is_guarded = cell.startswith("'") and _FORMULA.match(cell)
    return cell[1:] if is_guarded else cell


def to_json(value: Any, indent: int | None = None) -> str:
    r"""Returns JSON in ASCII, which every terminal shows and every parser reads.

    Bytes of names that are not UTF-8 become a text such as `\udcff`: a lone surrogate in JSON is
    an error for many parsers.
    """
    text = json.dumps(value, indent=indent)
    if r"\ud" in text:  # perhaps a lone surrogate
        raw = json.dumps(value, ensure_ascii=False)
        value = json.loads(_SURROGATE.sub(lambda found: rf"\\u{ord(found[0]):04x}", raw))
        text = json.dumps(value, indent=indent)
    return text


def say(line: str) -> None:
    """Prints a line on stderr, broken between words if a terminal is narrower."""
    if sys.stderr is not None:  # None: the process was started without it
        line = printable(line, keep="\n")
        print(fold_text(line, screen_width(sys.stderr)), file=sys.stderr)  # noqa: T201


def did_you_mean(value: str, allowed: Sequence[str]) -> str:
    """Returns a sentence that rejects `value`, lists the allowed values and suggests one."""
    return f"{value!r} is not one of {', '.join(map(repr, allowed))}.{suggest(value, allowed)}"


def suggest(value: str, allowed: Sequence[str]) -> str:
    """Returns " Did you mean …?" with the allowed value that resembles `value` most, or ""."""
    import difflib

    spelling = {name.casefold(): name for name in allowed}
    containing = [name for name in spelling if value and value.casefold() in name]
    near = containing or difflib.get_close_matches(value.casefold(), spelling, n=1, cutoff=0.45)
    return f" Did you mean {spelling[near[0]]!r}?" if near else ""


def percent(value: float, digits: int = 0) -> str:
    """Returns a probability as text: `16 %`. Only 0 is `0 %`, and only 1 is `100 %`."""
    smallest = 10**-digits
    text = f"{100 * value:.{digits}f}"
    if value > 0 and float(text) == 0:
        return f"<{smallest:.{digits}f} %"
    if value < 1 and float(text) == 100:
        return f">{100 - smallest:.{digits}f} %"
    return f"{text} %"


def percents_in_order(value: float, threshold: float) -> tuple[str, str]:
    """Returns a probability and a threshold as text.

    They get more digits if rounding makes a probability below the threshold look equal to it.
    """
    digits = 0
    while value < threshold and digits < _MAX_DIGITS:
        texts = f"{100 * value:.{digits}f}", f"{100 * threshold:.{digits}f}"
        if texts[0] != texts[1]:
            break
        digits += 1
    return percent(value, digits), percent(threshold, digits)


def is_terminal(stream: TextIO | None) -> bool:
    """Returns whether a terminal shows `stream`; None: the process was started without it."""
    return stream is not None and stream.isatty()


def screen_width(stream: TextIO | None = None) -> int | None:
    """Returns the columns of the terminal that shows `stream` (stdout); None for a file or pipe."""
    shows = is_terminal(sys.stdout if stream is None else stream)
    return shutil.get_terminal_size().columns if shows else None


def fold_text(text: str, width: int | None, indent: int = 0) -> str:
    """Returns text whose lines are broken between words to fit the width, if any.

    Lines after the first of a line begin with `indent` spaces. Lines that fit are unchanged, and so
    are lines with an option of a command: a person may copy them.
    """
    if width is None:
        return text
    stay = [len(line) <= width or " --" in line for line in text.split("\n")]
    return "\n".join(
        line if stays else _wrap(line, width, indent)
        for line, stays in zip(text.split("\n"), stay, strict=True)
    )


def _wrap(text: str, width: int, indent: int = 0) -> str:
    """Returns lines of at most `width` characters, except for longer words."""
    return textwrap.fill(
        text,
        max(width, 1),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def text_table(
    rows: Iterable[Sequence[object]],
    align: str = "",
    *,
    keys: int = 1,
    indent: str = "",
    width: int | None = None,
) -> str:
    """Returns rows as text with aligned columns, two spaces apart.

    Columns that do not fit on the screen follow in a second table below the first. A column that is
    too wide alone is wrapped between words.

    Args:
      rows: The header, if any, and the rows; each cell goes through `printable`. Rows may be
        shorter than the longest one.
      align: One letter a column: "<" left (the default for columns not named) or ">" right.
      keys: Number of columns at the start that name a row. Each table has them.
      indent: Spaces before each line.
      width: Columns of the screen; by default the columns of the terminal, or no limit without one.
    """
    width = width or screen_width()
    room = None if width is None else width - len(indent)
    cells = [[printable(cell) for cell in row] for row in rows]
    tables = _split_columns(_pad_cells(cells, align), keys, room, gap=2)
    lines = []
    for number, table in enumerate(tables):
        lines += [""] if number else []
        for row in table if room is None else _wrap_last_column(table, room):
            lines.append((indent + "  ".join(row)).rstrip())
    return "\n".join(lines)


def markdown_table(
    rows: Iterable[Sequence[object]], *, keys: int = 1, width: int | None = None
) -> str:
    """Returns rows as a Markdown table with aligned columns; the first row is the header.

    With a `width`, columns that do not fit follow in a second table, see `text_table`.
    """
    room = None if width is None else width - 4  # "| " and " |"
    cells = [[markdown(cell) for cell in row] for row in rows]
    tables = _split_columns(_pad_cells(cells, ""), keys, room, gap=3)
    return "\n\n".join(map(_draw_markdown, tables))


def _draw_markdown(cells: list[list[str]]) -> str:
    header, *body = cells
    rule = "|".join("-" * (len(cell) + 2) for cell in header)
    return "\n".join(
        [f"| {' | '.join(header)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in body)]
    )


def _pad_cells(cells: list[list[str]], align: str) -> list[list[str]]:
    columns = max(map(len, cells), default=0)
    cells = [row + [""] * (columns - len(row)) for row in cells]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    align = align.ljust(columns, "<")
    return [
        [f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=False)]
        for row in cells
    ]


def _split_columns(
    cells: list[list[str]], keys: int, room: int | None, *, gap: int
) -> list[list[list[str]]]:
    """Returns tables that fit in `room`, each with the first columns; padded cells, `gap` apart."""
    widths = [len(cell) for cell in cells[0]] if cells else []
    if room is None or sum(widths) + gap * (len(widths) - 1) <= room:
        return [cells]
    tables, start = [], keys
    while start < len(widths):
        end, used = start + 1, sum(widths[:keys]) + gap * keys + widths[start]
        while end < len(widths) and used + gap + widths[end] <= room:
            used += gap + widths[end]
            end += 1
        tables.append([row[:keys] + row[start:end] for row in cells])
        start = end
    return tables


def _wrap_last_column(table: list[list[str]], room: int) -> Iterator[list[str]]:
    """Yields the rows, with further rows where the last cell does not fit next to the others."""
    for *others, last in table:
        left = room - sum(len(cell) + 2 for cell in others)
        if len(last.rstrip()) <= left:
            yield [*others, last]
            continue
        lines = _wrap(last, left).splitlines()
        yield [*others, lines[0]]
        for line in lines[1:]:
            yield [*(" " * len(cell) for cell in others), line]
