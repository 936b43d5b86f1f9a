"""What a kind of trial is, and what one trial yields."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from .stage import Stage


class Outcome(NamedTuple):
    """The result of one trial."""

    number: int
    result: str  # such as "refused"
    problem: str = ""  # what makes the trial a failure


Run = Callable[["Stage", Path, Sequence[int]], list[Outcome]]


class Kind(NamedTuple):
    """A kind of trial.

    `run` gets the stage, an empty folder and the numbers of the trials. A trial depends on its
    number and the seed only, so it can be repeated alone.
    """

    name: str
    run: Run
    batch: int  # trials that share a process
    share: float  # of the time, relative to the other kinds
    most: int | None = None  # trials of a soak


def draw(seed: int, kind: str, number: int) -> np.random.Generator:
    """Returns the random numbers of one trial."""
    return np.random.default_rng([seed, zlib.crc32(kind.encode()), number])


def narrow(
    run: Callable[[Path, Sequence[int]], tuple[list[Outcome], str]],
    folder: Path,
    numbers: Sequence[int],
) -> list[Outcome]:
    """Runs a batch; if its process failed, runs each half again until the trial is found.

    Args:
      run: Returns the outcomes of a batch, and the problem of its process.
      folder: An empty folder.
      numbers: The trials.
    """
    part = folder / f"{numbers[0]}-{numbers[-1]}"
    part.mkdir()
    outcomes, problem = run(part, numbers)
    if not problem:
        return outcomes
    if len(numbers) == 1:
        return [Outcome(numbers[0], "failed", problem)]
    middle = len(numbers) // 2
    halves = (numbers[:middle], numbers[middle:])
    found = [outcome for half in halves for outcome in narrow(run, folder, half)]
    if not any(outcome.problem for outcome in found):  # only all of them together fail
        found[0] = Outcome(numbers[0], "failed", f"trials {numbers[0]}-{numbers[-1]}: {problem}")
    return found
