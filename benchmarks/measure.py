"""What the benchmarks share: each contender in a process of its own, in turns, medians, tables.

All contenders are started and warmed up first; then they measure one after the other, A B C A B C …,
so that a machine whose speed drifts slows all of them alike. The others wait idle. The first turn is
not counted. What is quoted are ratios within one run of a script.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cxr_tfds.memory import peak_mb

WORK = Path(__file__).parent / "work"  # ignored by git

Figures = dict[str, Any]  # numbers
Measure = Callable[[float], Figures]  # measures for so many seconds


def options(description: str | None) -> argparse.ArgumentParser:
    """The options of every benchmark."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="Length of one measurement. [%(default)s]"
    )
    parser.add_argument("--repeats", type=int, default=4, help="Turns counted. [%(default)s]")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # the child's side
    return parser


def source_files(source: Path) -> list[Path]:
    """The training images of a `chest_xray` folder; where it is absent, of 240 drawn radiographs."""
    return _training_images(source) or phantoms()


def phantoms() -> list[Path]:
    """Drawn radiographs, as files in benchmarks/work/."""
    folder = WORK / "phantoms"
    if not folder.is_dir():
        from cxr_tfds.phantom.dataset import write_dataset

        write_dataset(folder, images={"train": {"NORMAL": 96, "PNEUMONIA": 144}})
    return _training_images(folder / "chest_xray")


def print_source(source: Path) -> None:
    """Says which images were read."""
    found = _training_images(source)
    print(f"Images: {source if found else f'phantoms, drawn: no real files in {source}'}\n")


def _training_images(folder: Path) -> list[Path]:
    return sorted((folder / "train").glob("*/*"))


def rate(batches: Iterable[int], warm_up: int = 8) -> Measure:
    """How fast `batches`, each given as its number of images and without end, are drawn.

    Returns:
      A function that gives images_per_s, cpu_ms (processor time of the whole process for an image)
      and peak_mb (of the process since it started, libraries included).
    """
    stream = iter(batches)
    for _ in range(warm_up):
        next(stream)

    def measure(seconds: float) -> Figures:
        # What was prefetched while the others had their turn does not count.
        lead_in = time.perf_counter() + seconds / 2
        while time.perf_counter() < lead_in:
            next(stream)
        images, start, cpu = 0, time.perf_counter(), time.process_time()
        while (passed := time.perf_counter() - start) < seconds:
            images += next(stream)
        cpu = time.process_time() - cpu
        return {
            "images_per_s": images / passed,
            "cpu_ms": 1000 * cpu / images,
            "peak_mb": peak_mb(),
        }

    return measure


def serve(measure: Measure) -> None:
    """The child's side: one measurement for each number of seconds read, figures as JSON."""
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(float(line))), flush=True)


def run_once(script: str, name: str, arguments: Sequence[str] = ()) -> str:
    """Runs `script --only name` to its end; what it printed."""
    child = _Child(script, name, arguments)
    printed, _ = child.process.communicate()
    child.check()
    return printed


def in_turns(
    script: str,
    contenders: Iterable[str],
    *,
    repeats: int,
    seconds: float,
    arguments: Sequence[str] = (),
) -> dict[str, Figures]:
    """Starts `script --only NAME` for each contender and lets them measure in turns; medians."""
    children = {name: _Child(script, name, arguments) for name in contenders}
    try:
        for name, child in children.items():
            child.answer()
            print(f"ready: {name}", file=sys.stderr)
        found: dict[str, list[Figures]] = {name: [] for name in children}
        for turn in range(repeats + 1):
            print(f"turn {turn} of {repeats}", file=sys.stderr)
            for name, child in children.items():
                figures = child.measure(seconds)
                if turn:
                    found[name].append(figures)
    finally:
        for child in children.values():
            child.process.kill()
            child.process.wait()
    return {name: _medians(results) for name, results in found.items()}


def _medians(results: list[Figures]) -> Figures:
    return {key: statistics.median(result[key] for result in results) for key in results[0]}


class _Child:
    def __init__(self, script: str, name: str, arguments: Sequence[str]) -> None:
        WORK.mkdir(exist_ok=True)
        self.name, self.log = name, WORK / f"{Path(script).stem}-{name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, script, "--only", name, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            )

    def answer(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:  # libraries print there, too
            if line.startswith(("ready", "{")):
                return line
        self.process.wait()
        self.check()
        sys.exit(f"{self.name} ended early; see {self.log}")

    def measure(self, seconds: float) -> Figures:
        assert self.process.stdin is not None
        print(seconds, file=self.process.stdin, flush=True)
        return json.loads(self.answer())

    def check(self) -> None:
        if self.process.returncode:
            sys.exit(f"{self.name} failed:\n{self.log.read_text(errors='replace')[-3000:]}")


def forever(function: Callable[[], Iterable]) -> Iterator:
    """The items of `function()` again and again."""
    while True:
        yield from function()


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Prints Markdown."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print(
            "| "
            + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            + " |"
        )
        if not number:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print()


def print_verdicts(rows: list[tuple[str, float, str, float]]) -> None:
    """Prints figures, each with ">=" or "<=" and what is required, and whether they pass."""
    table = [("figure", "measured", "required", "")]
    for figure, measured, sign, required in rows:
        passed = measured >= required if sign == ">=" else measured <= required
        table.append(
            (figure, f"{measured:.3g}", f"{sign} {required:g}", "pass" if passed else "miss")
        )
    print_table(table)
