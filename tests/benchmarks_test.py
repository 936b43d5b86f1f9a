"""The results of the benchmarks and the page made from them; nothing is measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(FOLDER))
import tables  # noqa: E402


def test_page_is_made_from_the_results() -> None:
    page = tables.README.read_text(encoding="utf-8")
    assert tables.fill(page, tables.read_results()) == page, "run: python benchmarks/tables.py"


def test_page_has_all_results() -> None:
    page = tables.README.read_text(encoding="utf-8")
    assert [x for x in tables.read_results() if f"<!-- results: {x} -->" not in page] == []


def test_median_keeps_the_spread_and_divides_turn_by_turn() -> None:
    one, two = tables.Median([2, 6, 4]), tables.Median([1, 2, 4])
    assert (one, min(one.turns), max(one.turns)) == (4, 2, 6)
    assert (one / two).turns == (2, 3, 1)
    assert (one / 2).turns == (1, 3, 2)


@pytest.mark.parametrize(("sign", "verdict"), [(">=", "pass"), ("<=", "miss")])
def test_report_becomes_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: str, verdict: str
) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    report = tables.Report("benchmarks/reading.py")
    report.note("Two turns.")
    columns = [tables.Column("way"), tables.Column("images/s", ",.0f", spread=True)]
    report.table(columns, [("ours", tables.Median([1000, 3000])), ("theirs", None)])
    report.targets([tables.Target("ours, images/s", tables.Median([2.0]), sign, 1.5)])
    report.save()
    page = "# Page\n\n<!-- results: reading -->\nold\n\n<!-- end -->\n"
    filled = tables.fill(page, tables.read_results())
    assert "Two turns.\n\n| way    | images/s            |\n" in filled
    assert "| ours   | 2,000 (1,000–3,000) |\n" in filled  # noqa: RUF001
    assert f"| {sign} 1.5   | {verdict} |" in filled
    assert "old" not in filled
    missed = ["reading: ours, images/s: 2; required <= 1.5"]
    assert tables.missed(tables.read_results()) == (missed if verdict == "miss" else [])


def test_toy_run_leaves_the_results() -> None:
    assert tables.Report("x.py", is_toy=True).path.parent == FOLDER / "work" / "results"
