"""Signals at random instants to every command that writes, and two commands on one folder."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import snapshot
from .process import Done, Running
from .stage import Stage
from .trial import Kind, Outcome, draw
from .writers import WRITERS, References, Writer, check_disturbed, repeat

# Commands that take longer come less often.
_CYCLE = (
    "predict --html", "build", "data export", "evaluate", "predict --heatmap-dir", "export",
    "preview", "build", "train", "predict --html", "data export", "phantom", "evaluate", "build",
    "predict --html", "export", "train", "cxr-run",
)  # fmt: skip
_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_TWO = 0.35  # of the trials have two commands
_OBEY_S = 120.0  # after a signal

_references: dict[Path, References] = {}


def references(stage: Stage) -> References:
    """Returns the undisturbed results, which all kinds of disturbance share."""
    return _references.setdefault(stage.folder, References(stage))


def _run(stage: Stage, folder: Path, numbers: Sequence[int]) -> list[Outcome]:
    return [_disturb(stage, folder / str(number), number) for number in numbers]


def _disturb(stage: Stage, out: Path, number: int) -> Outcome:
    rng = draw(stage.seed, "kills", number)
    writer = WRITERS[_CYCLE[number % len(_CYCLE)]]
    refs = references(stage)
    refs.snapshots(writer)  # before anything is timed
    out.mkdir()
    writer.prepare(stage, out)
    if not writer.keeps and writer.variants > 1 and rng.integers(2):  # an old result
        if problems := repeat(stage, writer, out, refs):
            return Outcome(number, "failed", f"{writer.name}, undisturbed: {'; '.join(problems)}")
        writer.clear(stage, out)
    before = snapshot.take(out)
    act = _two if rng.random() < _TWO else _signal
    what, problems = act(stage, writer, out, refs, rng)
    problems += check_disturbed(writer, out, before, refs)
    problems += repeat(stage, writer, out, refs, int(rng.integers(writer.variants)))
    problem = f"{writer.name}, {what}: {'; '.join(problems)}" if problems else ""
    return Outcome(number, f"{writer.name}: {what}", problem)


def _signal(
    stage: Stage, writer: Writer, out: Path, refs: References, rng: np.random.Generator
) -> tuple[str, list[str]]:
    variant = int(rng.integers(writer.variants))
    sent = _SIGNALS[rng.integers(len(_SIGNALS))]
    running = stage.commands.fork(*writer.line(stage, out, variant))
    running.sleep(rng.uniform(0, 1.05 * refs.get(writer, variant)[1]))
    was_running = running.send(sent)
    done = running.wait(_OBEY_S)
    return (sent.name if was_running else "ended before the signal"), _problems(done, "")


def _two(
    stage: Stage, writer: Writer, out: Path, refs: References, rng: np.random.Generator
) -> tuple[str, list[str]]:
    """Starts two commands on one folder; kills the first in half of the trials."""
    duration = refs.get(writer, 0)[1]
    first = stage.commands.fork(*writer.line(stage, out, 0))
    first.sleep(rng.uniform(0, 0.5 * duration))
    second = stage.commands.fork(*writer.line(stage, out, writer.variants - 1))
    is_killed = False
    if rng.integers(2):
        second.sleep(rng.uniform(0, duration))
        is_killed = first.send(signal.SIGKILL)
    done = [_end(running) for running in (first, second)]
    problems = [
        problem for each, name in zip(done, "12", strict=True) for problem in _problems(each, name)
    ]
    succeeded = [number for number, each in enumerate(done) if each.code == 0]
    found = snapshot.take(out)
    if not succeeded and not is_killed:
        problems.append(f"neither succeeded: {done[0].stderr[-300:]} {done[1].stderr[-300:]}")
    if succeeded:
        expected = [refs.get(writer, (writer.variants - 1) * number)[0] for number in succeeded]
        differences = min((snapshot.compare(found, each) for each in expected), key=len)
        problems += [f"the successful command's {name}" for name in differences[:5]]
    return ("two, one killed" if is_killed else "two"), problems


def _end(running: Running) -> Done:
    return running.wait()


def _problems(done: Done, name: str) -> list[str]:
    return [f"command {name}: {done.problem}" if name else done.problem] if done.problem else []


KILLS = Kind("kills", _run, batch=1, share=4.0)
