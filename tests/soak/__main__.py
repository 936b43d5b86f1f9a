"""Disturbs all commands for a given time and counts what happens: `make soak`."""

from __future__ import annotations

import argparse
import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from helpers.command_server import CommandServer

from .archives import ZIPS
from .clocks import CLOCKS
from .disks import DISKS
from .documents import JSON
from .images import DICOM, IMAGES
from .kills import KILLS
from .models import MODELS
from .stage import Stage
from .trial import Kind, Outcome
from .volume import MANY_FILES, MANY_IMAGES
from .walks import WALKS

KINDS = {
    kind.name: kind
    for kind in (
        KILLS, IMAGES, DICOM, MODELS, JSON, ZIPS, WALKS, DISKS, CLOCKS, MANY_IMAGES, MANY_FILES
    )
}  # fmt: skip
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


class Tally:
    """Counts of one kind."""

    def __init__(self) -> None:
        self.trials, self.seconds = 0, 0.0
        self.results: Counter[str] = Counter()
        self.failures: list[Outcome] = []

    def add(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        """Adds the outcomes of a batch."""
        self.seconds += seconds
        self.trials += len(outcomes)
        self.results.update(outcome.result for outcome in outcomes)
        self.failures += [outcome for outcome in outcomes if outcome.problem]


def run_batch(kind: Kind, stage: Stage, numbers: Sequence[int]) -> list[Outcome]:
    """Runs trials in a folder of their own, which stays if one of them fails."""
    folder = stage.folder / "trials" / f"{kind.name}-{numbers[0]}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    outcomes = kind.run(stage, folder, numbers)
    if not any(outcome.problem for outcome in outcomes):
        shutil.rmtree(folder)
    return outcomes


def _choose(kinds: Sequence[Kind], tallies: dict[str, Tally]) -> Kind | None:
    """Returns the kind that has used the least of its share, or None if all are complete."""
    left = [k for k in kinds if k.most is None or tallies[k.name].trials < k.most]
    return min(left, key=lambda k: tallies[k.name].seconds / k.share, default=None)


def soak(
    stage: Stage, kinds: Sequence[Kind], seconds: float, trial: range | None
) -> dict[str, Tally]:
    """Runs trials of all kinds in turn until the time is over, at least one batch of each."""
    tallies = {kind.name: Tally() for kind in kinds}
    end = time.monotonic() + seconds
    for kind, numbers in _schedule(kinds, tallies, end, trial):
        started = time.monotonic()
        try:
            outcomes = run_batch(kind, stage, numbers)
        except KeyboardInterrupt:
            break
        tally = tallies[kind.name]
        tally.add(outcomes, time.monotonic() - started)
        for outcome in outcomes:
            if outcome.problem:
                print_failure(kind, outcome, stage)
        print(
            f"{kind.name}: {tally.trials:,} trials, {len(tally.failures)} failures", file=sys.stderr
        )
    return tallies


def _schedule(
    kinds: Sequence[Kind], tallies: dict[str, Tally], end: float, trial: range | None
) -> Iterator[tuple[Kind, Sequence[int]]]:
    if trial is not None:
        yield kinds[0], trial
        return
    while kind := _choose(kinds, tallies):
        if time.monotonic() > end and all(tally.trials for tally in tallies.values()):
            return
        first = tallies[kind.name].trials
        yield kind, range(first, first + kind.batch)


def print_failure(kind: Kind, outcome: Outcome, stage: Stage) -> None:
    """Prints what happened and how to repeat it."""
    print(
        f"\nFAILED {kind.name}, trial {outcome.number}: {outcome.problem}\n"
        f"Repeat it with: make soak SEED={stage.seed} TRIAL={kind.name}:{outcome.number}\n",
        flush=True,
    )


def print_table(tallies: dict[str, Tally], seed: int) -> None:
    """Prints the counts as a Markdown table, and the results of each kind."""
    print("\n| kind | trials | failures | seconds |\n|---|---:|---:|---:|")
    for name, tally in tallies.items():
        print(f"| {name} | {tally.trials:,} | {len(tally.failures)} | {tally.seconds:.0f} |")
    trials = sum(tally.trials for tally in tallies.values())
    failures = sum(len(tally.failures) for tally in tallies.values())
    print(f"| all | {trials:,} | {failures} | {sum(t.seconds for t in tallies.values()):.0f} |\n")
    for name, tally in tallies.items():
        found = ", ".join(f"{count:,} {result}" for result, count in tally.results.most_common())
        print(f"{name}: {found}")
    print(f"\nSeed: {seed}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--time", default="20m", help="Duration, such as 90s, 30m or 2h.")
    parser.add_argument("--seed", type=int, help="Seed of all trials; at random by default.")
    parser.add_argument("--kind", action="append", choices=KINDS, help="Only this kind; repeat.")
    parser.add_argument("--trial", help="One trial, KIND:NUMBER, or several, KIND:FIRST-LAST.")
    options = parser.parse_args(arguments)
    if not (found := re.fullmatch(r"(\d+)([smh]?)", options.time)):
        parser.error(f"--time {options.time}: expected a number with s, m or h, such as 20m.")
    options.seconds = int(found[1]) * _UNITS[found[2]]
    if options.trial:
        found = re.fullmatch(r"([\w-]+):(\d+)(?:-(\d+))?", options.trial)
        if not found or found[1] not in KINDS:
            parser.error(f"--trial {options.trial}: expected KIND:NUMBER, KIND of {list(KINDS)}.")
        options.kind = [found[1]]
        options.trial = range(int(found[2]), int(found[3] or found[2]) + 1)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the soak; returns 1 if a trial failed."""
    options = _parse(arguments)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored, for the commands
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    kinds = [KINDS[name] for name in options.kind or KINDS]
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    with CommandServer(folder, {}) as server:
        tallies = soak(Stage(folder, server, seed), kinds, options.seconds, options.trial)
    print_table(tallies, seed)
    if any(tally.failures for tally in tallies.values()):
        print(f"Files of the failures: {folder / 'trials'}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
