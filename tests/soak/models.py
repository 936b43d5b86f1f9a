"""Corrupt model files: refused, or the same prediction where nothing reads the changed bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from helpers import open_models
from helpers.corruptions import corrupt_model, truncate

from cxr_tfds.export.edge import runtime

from .stage import Stage
from .trial import Kind, Outcome, draw, narrow

_KINDS = ("byte", "flatbuffer", "zip", "truncated")
_INTACT = "intact"


def _open(stage: Stage, folder: Path, numbers: Sequence[int]) -> tuple[list[Outcome], str]:
    content = stage.model.read_bytes()
    for number in numbers:
        rng = draw(stage.seed, "models", number)
        kind = _KINDS[number % len(_KINDS)]
        changed = corrupt_model(content, rng) | {"truncated": truncate(content, rng)}
        (folder / f"{number:07}-{kind}.tflite").write_bytes(changed[kind])
    (folder / f"{_INTACT}.tflite").write_bytes(content)
    runtimes = runtime.installed_runtimes()
    name = runtimes[numbers[0] // MODELS.batch % len(runtimes)]
    line = ("python", "-W", "ignore", open_models.__file__, folder, stage.images[0], name)
    done = stage.commands.spawn(*line).wait(60 + len(numbers))
    if done.problem or done.code:
        return [], done.problem or f"exit code {done.code}: {done.stderr[-1500:]}"
    answers = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    intact = answers.pop(f"{_INTACT}.tflite")
    if not intact.startswith("prediction"):
        return [], f"the intact model: {intact}"
    return [_judge(file, answer, intact) for file, answer in answers.items()], ""


def _judge(file: str, answer: str, intact: str) -> Outcome:
    number, kind = int(file[:7]), file[8:].partition(".")[0]
    if answer == "error":
        return Outcome(number, "refused")
    if answer == intact and kind == "zip":
        return Outcome(number, "same prediction")
    return Outcome(number, "failed", f"{file}: {answer}; the intact model: {intact}")


def _run(stage: Stage, folder: Path, numbers: Sequence[int]) -> list[Outcome]:
    return narrow(partial(_open, stage), folder, numbers)


MODELS = Kind("models", _run, batch=200, share=1.0)
