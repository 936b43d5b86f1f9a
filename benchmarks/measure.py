"""What the benchmarks share: each contender in a process of its own, in turns, medians, one table.

Contenders run A B C A B C …, so that a machine whose speed drifts slows all of them alike; what is
quoted are ratios within one run of the script.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

WORK = Path(__file__).parent / "work"  # ignored by git


def rate(batches: Iterable[int], seconds: float, warm_up: int) -> dict[str, float]:
    """Draws batches, each given as its number of images, for `seconds` after `warm_up` batches.

    Returns:
      images_per_s, cpu_ms (processor time of the whole process for an image), peak_mb.
    """
    stream = iter(batches)
    for _ in range(warm_up):
        next(stream)
    images, start, cpu = 0, time.perf_counter(), time.process_time()
    while (passed := time.perf_counter() - start) < seconds:
        images += next(stream)
    cpu = time.process_time() - cpu
    return {
        "images_per_s": images / passed,
        "cpu_ms": 1000 * cpu / images,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_turns(script: str, contenders: Iterable[str], repeats: int) -> dict[str, dict[str, float]]:
    """Runs `script --only NAME` for each contender, `repeats` times in turns; medians of what they print."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for turn in range(repeats):
        for name, results in found.items():
            print(f"turn {turn + 1}/{repeats}: {name}", file=sys.stderr)
            done = subprocess.run(
                [sys.executable, script, "--only", name],
                capture_output=True,
                text=True,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            )
            if done.returncode:
                sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
            results.append(json.loads(done.stdout.splitlines()[-1]))
    return {
        name: {key: statistics.median(result[key] for result in results) for key in results[0]}
        for name, results in found.items()
    }


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Prints Markdown."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        if not number:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def main(script: str, contenders: dict[str, Callable[[], dict[str, float]]], only: str | None) -> None:
    """The child's side: runs one contender and prints its figures as JSON."""
    if only is not None:
        print(json.dumps(contenders[only]()))
