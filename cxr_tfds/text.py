"""Text for people: suggestions for mistyped names and aligned tables. Standard library only."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Sequence

DISCLAIMER = (
    "Not a medical device. For research and teaching only. Not for diagnosis, screening or "
    "treatment."
)

_MAX_DIGITS = 15  # after the decimal point: float64 has no more


def say(line: str) -> None:
    """Prints a line on stderr."""
    if sys.stderr is not None:  # None: the process was started without it
        print(line, file=sys.stderr)  # noqa: T201


def did_you_mean(value: str, allowed: Sequence[str]) -> str:
    """Returns a sentence that rejects `value`, lists the allowed values and suggests one."""
    spelling = {name.casefold(): name for name in allowed}
    containing = [name for name in spelling if value and value.casefold() in name]
    near = containing or difflib.get_close_matches(value.casefold(), spelling, n=1, cutoff=0.45)
    hint = f" Did you mean {spelling[near[0]]!r}?" if near else ""
    return f"{value!r} is not one of {', '.join(map(repr, allowed))}.{hint}"


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


def text_table(rows: Iterable[Sequence[object]], align: str = "") -> str:
    """Returns rows as text with aligned columns, two spaces apart.

    Args:
      rows: The header, if any, and the rows; every cell is printed with `str`. Rows may be shorter
        than the longest one.
      align: One letter a column: "<" left (the default for columns not named) or ">" right.
    """
    return "\n".join("  ".join(row).rstrip() for row in _pad_cells(rows, align))


def markdown_table(rows: Iterable[Sequence[object]]) -> str:
    """Returns rows as a Markdown table with aligned columns; the first row is the header."""
    header, *body = _pad_cells(rows, "")
    rule = "|".join("-" * (len(cell) + 2) for cell in header)
    return "\n".join(
        [f"| {' | '.join(header)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in body)]
    )


def _pad_cells(rows: Iterable[Sequence[object]], align: str) -> list[list[str]]:
    cells = [[str(cell) for cell in row] for row in rows]
    columns = max(map(len, cells), default=0)
    widths = [max(len(row[i]) for row in cells if i < len(row)) for i in range(columns)]
    align = align.ljust(columns, "<")
    return [
        [f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=False)]
        for row in cells
    ]
