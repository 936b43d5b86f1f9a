"""A clock that jumps by days at a random instant, through libfaketime."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from . import snapshot
from .kills import references
from .process import TRAINING_MB
from .stage import Stage
from .trial import Kind, Outcome, draw
from .writers import WRITERS, check_disturbed, repeat

_CYCLE = ("predict --html", "build", "predict --heatmap-dir", "evaluate", "data export", "train")
_STEPS = ("-400d", "-2d", "-90", "+90", "+2d", "+4000d")
_LIBRARY = "libfaketimeMT.so.1"
_START_S = {"predict --html": 1.0, "predict --heatmap-dir": 1.0}  # others load TensorFlow
_TENSORFLOW_START_S = 8.0


@cache
def find_library() -> Path | None:
    """Returns the path of libfaketime, or None if it is not installed."""
    program = shutil.which("faketime")
    folders = ("/usr/lib", "/usr/local/lib", "/opt")
    found = (path for folder in folders for path in Path(folder).glob(f"**/{_LIBRARY}"))
    return next(found, None) if program else None


def _step(stage: Stage, folder: Path, number: int) -> Outcome:
    if (library := find_library()) is None:
        return Outcome(number, "skipped: install it with: apt-get install -y faketime")
    rng = draw(stage.seed, "clocks", number)
    writer = WRITERS[_CYCLE[number % len(_CYCLE)]]
    refs = references(stage)
    refs.snapshots(writer)
    (out := folder / "out").mkdir(parents=True)
    writer.prepare(stage, out)
    before = snapshot.take(out)
    clock = folder / "clock"
    clock.write_text("+0")
    env = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": str(rng.integers(2)),  # 1: as on a file server whose clock does not jump
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    line = writer.line(stage, out, 0)
    running = stage.commands.spawn(*line, env=env, limit_mb=TRAINING_MB)
    starting = _START_S.get(writer.name, _TENSORFLOW_START_S)
    running.sleep(rng.uniform(0, starting + refs.get(writer, 0)[1]))
    step = _STEPS[rng.integers(len(_STEPS))]
    clock.write_text(step)
    done = running.wait()
    problems = [done.problem] if done.problem else []
    if not problems and done.code:
        problems.append(f"ended with {done.code}: {done.stderr[-1000:].strip()}")
    problems += check_disturbed(writer, out, before, refs)
    problems += snapshot.compare(snapshot.take(out), refs.get(writer, 0)[0])
    problems += repeat(stage, writer, out, refs)
    result = f"{writer.name}: same result"
    return Outcome(
        number, result, f"{writer.name}, {step}: {'; '.join(problems)}" if problems else ""
    )


def _run(stage: Stage, folder: Path, numbers: Sequence[int]) -> list[Outcome]:
    return [_step(stage, folder / str(number), number) for number in numbers]


CLOCKS = Kind("clocks", _run, batch=1, share=1.0)
