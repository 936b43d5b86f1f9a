"""Results of benchmarks as JSON in results/, and the tables of README.md made from them.

Run: python benchmarks/tables.py (rewrites the tables of README.md from the JSON files).

A script fills a `Report`, which prints Markdown and writes the JSON file. README.md shows the file
between `<!-- results: SCRIPT -->` and `<!-- end -->`, and nothing there is written by hand.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
README, RESULTS, TOY_RESULTS = FOLDER / "README.md", FOLDER / "results", FOLDER / "work" / "results"
PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "numpy", "Pillow")
MAIN = "main"  # the name of the block with the main results of all files
DIGITS = 4  # significant ones in JSON


class Median(float):
    """The median of the values of several turns; a quotient of two is taken turn by turn."""

    turns: tuple[float, ...]

    def __new__(cls, turns: Iterable[float]) -> Median:
        """Returns the median of `turns`, which remembers them."""
        values = tuple(turns)
        median = super().__new__(cls, statistics.median(values))
        median.turns = values
        return median

    def __truediv__(self, other: float) -> Median:
        """Returns the median of the quotients of each turn."""
        others = other.turns if isinstance(other, Median) else [float(other)] * len(self.turns)
        return Median(one / two for one, two in zip(self.turns, others, strict=True))


class Column(NamedTuple):
    """A column of a table.

    Attributes:
      title: What the cells are.
      format: Format of its numbers, such as ",.0f".
      spread: Whether to show the smallest and largest turn as well.
    """

    title: str
    format: str = ""
    spread: bool = False


class Target(NamedTuple):
    """A number and what is required of it.

    Attributes:
      title: What the number is.
      measured: The number.
      sign: ">=" or "<=".
      limit: The required value.
      is_main: Whether it is one of the main results on the first screen of README.md.
    """

    title: str
    measured: float
    sign: str
    limit: float
    is_main: bool = False


class Report:
    """What a script has measured; prints tables, and writes them to results/ at the end.

    Args:
      script: The path of the script.
      is_toy: Whether it only checks that the script runs; then work/results/ is written.
    """

    def __init__(self, script: str, *, is_toy: bool = False) -> None:
        self.path = (TOY_RESULTS if is_toy else RESULTS) / f"{Path(script).stem}.json"
        self.content = describe_machine() | {"notes": [], "tables": [], "targets": []}

    def note(self, text: str) -> None:
        """Adds a sentence about this run."""
        self.content["notes"].append(text)

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> None:
        """Adds a table; cells are texts, numbers, or None for an empty cell."""
        table = {
            "columns": [column._asdict() for column in columns],
            "rows": [[_to_json(cell) for cell in row] for row in rows],
        }
        self.content["tables"].append(table)
        print(format_table(table), flush=True)

    def targets(self, targets: Iterable[Target]) -> None:
        """Adds numbers with their required values."""
        added = [
            {
                "title": target.title,
                "measured": _to_json(target.measured),
                "required": f"{target.sign} {target.limit:g}",
                "passed": is_reached(target),
                "main": target.is_main,
            }
            for target in targets
        ]
        self.content["targets"] += added
        print(format_targets(added), flush=True)

    def save(self) -> None:
        """Writes the JSON file."""
        from cxr_tfds.files import write_json

        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self.content)


def is_reached(target: Target) -> bool:
    """Returns whether a number is as required."""
    if target.sign == ">=":
        return bool(target.measured >= target.limit)
    return bool(target.measured <= target.limit)


def describe_machine() -> dict[str, Any]:
    """Returns date, machine, load and versions."""
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    versions = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "measured": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": load,
        "versions": versions,
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return platform.processor()
    found = re.search(r"^model name\s*: (.+)$", text, flags=re.MULTILINE)
    return found[1].strip() if found else platform.processor()


def _to_json(cell: Any) -> Any:
    if isinstance(cell, Median):
        low, high = min(cell.turns), max(cell.turns)
        return {"median": _round(cell), "min": _round(low), "max": _round(high)}
    return _round(cell) if isinstance(cell, float) else cell


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def format_rows(rows: Sequence[Sequence[str]]) -> str:
    """Returns a header and rows as a Markdown table."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    lines = (
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "".join(f"| {line} |\n" for line in lines)


def format_table(table: dict[str, Any]) -> str:
    """Returns a table of a results file as Markdown."""
    columns = [Column(**column) for column in table["columns"]]
    rows = [
        [_format(cell, column) for cell, column in zip(row, columns, strict=True)]
        for row in table["rows"]
    ]
    return format_rows([[column.title for column in columns], *rows])


def _format(cell: Any, column: Column) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if not isinstance(cell, dict):
        return f"{cell:{column.format}}"
    middle, low, high = (f"{cell[key]:{column.format}}" for key in ("median", "min", "max"))
    is_wide = column.spread and low != high
    return f"{middle} ({low}–{high})" if is_wide else middle  # noqa: RUF001


def format_targets(targets: Sequence[dict[str, Any]]) -> str:
    """Returns the numbers of a results file with their required values as Markdown."""
    shown = Column("", ".3g", spread=True)
    rows = [
        (
            t["title"],
            _format(t["measured"], shown),
            t["required"],
            "pass" if t["passed"] else "miss",
        )
        for t in targets
    ]
    return format_rows([("number", "measured", "required", ""), *rows])


def read_results() -> dict[str, dict[str, Any]]:
    """Returns the contents of the results files by the name of the script."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(RESULTS.glob("*.json"))
    }


def missed(results: dict[str, dict[str, Any]]) -> list[str]:
    """Returns a line for each missed target."""
    shown = Column("", ".3g")
    return [
        f"{name}: {target['title']}: {_format(target['measured'], shown)}; required "
        f"{target['required']}"
        for name, content in results.items()
        for target in content["targets"]
        if not target["passed"]
    ]


def format_main(results: dict[str, dict[str, Any]]) -> str:
    """Returns the main results of all files and the missed targets as Markdown."""
    targets = [(name, target) for name, content in results.items() for target in content["targets"]]
    main = [
        target | {"title": f"`{name}`: {target['title']}"}
        for name, target in targets
        if target["main"]
    ]
    lines = [f"- {line}\n" for line in missed(results)]
    total = f"{len(targets) - len(lines)} of {len(targets)} targets are met."
    end = f" Missed:\n\n{''.join(lines)}" if lines else "\n"
    return f"{format_targets(main)}\n{total}{end}"


def format_results(content: dict[str, Any]) -> str:
    """Returns a results file as Markdown: machine, tables, targets; the notes if it has neither."""
    if not content["tables"] and not content["targets"]:
        return f"{' '.join(content['notes'])}\n"
    versions = [f"{name} {version}" for name, version in content.get("versions", {}).items()]
    machine = [content["machine"], content.get("processor")]
    machine.append(f"{content['cores']} cores" if content.get("cores") else None)
    if content.get("load") is not None:
        machine.append(f"load {content['load']} before the run")
    facts = ", ".join(fact for fact in [*machine, *versions] if fact)
    parts = [" ".join([f"Measured {content['measured']}: {facts}.", *content["notes"]]) + "\n"]
    parts += [format_table(table) for table in content["tables"]]
    parts += [format_targets(content["targets"])] if content["targets"] else []
    return "\n".join(parts)


def fill(page: str, results: dict[str, dict[str, Any]]) -> str:
    """Returns a page with the text between its markers made from the results."""

    def replaced(match: re.Match) -> str:
        name = match[2]
        text = format_main(results) if name == MAIN else format_results(results[name])
        return f"{match[1]}\n{text}{match[3]}"

    blocks = r"(<!-- results: (\w+) -->\n).*?(\n<!-- end -->)"
    return re.sub(blocks, replaced, page, flags=re.DOTALL)


def rewrite_page() -> None:
    """Writes the tables of README.md again."""
    from cxr_tfds.files import write_files

    write_files({README: fill(README.read_text(encoding="utf-8"), read_results())})


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    rewrite_page()
