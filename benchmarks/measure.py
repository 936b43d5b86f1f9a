"""Shared by the benchmarks: contenders in processes of their own, in turns, medians, tables.

All contenders start and warm up first. Then they measure one after the other, A B C A B C …, so a
machine whose speed drifts slows all of them equally; the others wait idle. The first turn is not
counted. Quote ratios within one run of a script. With `--toy` everything runs in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tables import Column, Median, Report, Target

from cxr_tfds.memory import peak_mb

__all__ = ["Column", "Median", "Report", "Target", "peak_mb"]

WORK = Path(__file__).parent / "work"  # ignored by git

Figures = dict[str, Any]  # the numbers of one measurement
Measure = Callable[[float], Figures]  # measures for a number of seconds


def options(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="Length of one measurement. [%(default)s]"
    )
    parser.add_argument(
        "--repeats", type=int, default=4, help="Number of counted turns. [%(default)s]"
    )
    parser.add_argument(
        "--toy", action="store_true", help="Check that the script runs: a few images, one turn."
    )
    parser.add_argument("--only", help=argparse.SUPPRESS)  # for the child processes
    return parser


def source_files(source: Path) -> list[Path]:
    """Returns the training images of a `chest_xray` folder, or drawn ones if it does not exist."""
    return _training_images(source) or phantoms()


def phantoms(folder: Path = WORK / "phantoms", count: int = 240) -> list[Path]:
    """Returns `count` drawn radiographs as files in `folder`; draws them unless it exists."""
    if not (folder / "chest_xray").is_dir():
        from cxr_tfds.phantom.dataset import write_dataset

        normal = 2 * count // 5
        images = {"train": {"NORMAL": normal, "PNEUMONIA": count - normal}}
        write_dataset(folder, images=images)
    return _training_images(folder / "chest_xray")


def describe_source(source: Path) -> str:
    """Returns which images were read, without the path."""
    count = len(_training_images(source))
    return f"{count:,} different radiographs." if count else "Drawn phantoms."


def _training_images(folder: Path) -> list[Path]:
    return sorted((folder / "train").glob("*/*"))


def rate(batches: Iterable[int], warm_up: int = 8) -> Measure:
    """Measures how fast an endless stream yields batches, each given as its number of images.

    Returns:
      A function that returns images_per_s, cpu_ms (CPU time per image of the process and its
      children), peak_mb (of the process since its start, libraries included) and own_mb (its
      present memory except mapped files, which the page cache holds anyway).
    """
    stream = iter(batches)
    for _ in range(warm_up):
        next(stream)

    def measure(seconds: float) -> Figures:
        # Batches prefetched during the turns of the others do not count.
        lead_in = time.perf_counter() + seconds / 2
        while time.perf_counter() < lead_in:
            next(stream)
        images, start, cpu = 0, time.perf_counter(), cpu_seconds()
        while (passed := time.perf_counter() - start) < seconds or not images:
            images += next(stream)
        cpu = cpu_seconds() - cpu
        return {
            "images_per_s": images / passed,
            "cpu_ms": 1000 * cpu / images,
            "peak_mb": peak_mb(),
            "own_mb": own_mb(),
        }

    return measure


def cpu_seconds() -> float:
    """Returns the CPU time of this process, and on Linux of all its living descendants."""
    return time.process_time() + sum(map(_descendants_cpu_seconds, _children(os.getpid())))


def _children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in lists for child in path.read_text().split()]


def _descendants_cpu_seconds(pid: int) -> float:
    """Returns the CPU time of a process, its ended children and its living descendants."""
    # After the name in parentheses; fields 14 to 17 of proc(5) are the ticks.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(map(_descendants_cpu_seconds, _children(pid)))


def own_mb() -> float | None:
    """Returns the present memory of this process except files, in MiB; on Linux only."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return peak_mb()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def compare(
    script: str,
    contenders: Mapping[str, Callable[[], Measure]],
    options: argparse.Namespace,
    arguments: Sequence[str] = (),
    commands: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Figures]:
    """Returns the medians of each contender; with `--toy` one short measurement in this process.

    `commands` holds the command lines of contenders that have other packages; `--toy` omits them.
    """
    if options.toy:
        print("A toy run: these numbers mean nothing.\n")
        return {name: _as_medians([prepare()(0.01)]) for name, prepare in contenders.items()}
    return in_turns(
        script,
        contenders,
        repeats=options.repeats,
        seconds=options.seconds,
        arguments=arguments,
        commands=commands,
    )


def measure_once(
    script: str,
    name: str,
    function: Callable[[], Figures],
    options: argparse.Namespace,
    arguments: Sequence[str] = (),
) -> Figures:
    """Returns what `script --only name` prints as JSON; with `--toy` what `function` returns."""
    if options.toy:
        return function()
    return json.loads(run_once(script, name, arguments).splitlines()[-1])


def serve(measure: Measure) -> None:
    """Runs in a child process: measures for each number of seconds read, prints figures as JSON."""
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(float(line))), flush=True)


def run_once(script: str, name: str, arguments: Sequence[str] = ()) -> str:
    """Runs `script --only name` and returns what it printed."""
    child = _Child(name, _command(script, name, arguments))
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
    commands: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Figures]:
    """Runs `script --only NAME` for each contender, measures in turns and returns the medians."""
    lines = {name: _command(script, name, arguments) for name in contenders}
    children = {name: _Child(name, line) for name, line in (lines | dict(commands or {})).items()}
    try:
        for name, child in children.items():
            child.read_line()
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
    return {name: _as_medians(results) for name, results in found.items()}


def _as_medians(results: Sequence[Figures]) -> Figures:
    return {key: Median(result[key] for result in results) for key in results[0]}


def _command(script: str, name: str, arguments: Sequence[str]) -> list[str]:
    return [sys.executable, script, "--only", name, *arguments]


class _Child:
    def __init__(self, name: str, command: Sequence[str]) -> None:
        WORK.mkdir(exist_ok=True)
        self.name, self.log = name, WORK / f"{Path(command[1]).stem}-{name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            )

    def read_line(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:  # libraries print there as well
            if line.startswith(("ready", "{")):
                return line
        self.process.wait()
        self.check()
        sys.exit(f"{self.name} ended early; see {self.log}")

    def measure(self, seconds: float) -> Figures:
        assert self.process.stdin is not None
        print(seconds, file=self.process.stdin, flush=True)
        return json.loads(self.read_line())

    def check(self) -> None:
        if self.process.returncode:
            sys.exit(f"{self.name} failed:\n{self.log.read_text(errors='replace')[-3000:]}")


def forever(function: Callable[[], Iterable]) -> Iterator:
    """Yields the items of `function()` again and again."""
    while True:
        yield from function()
