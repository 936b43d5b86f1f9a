"""Predictions of 20,000 images with flat memory, and folders of 100,000 files."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .process import group_mb
from .stage import Stage
from .trial import Kind, Outcome

_IMAGES = 20_000
_FILES = 100_000
_IMAGE_EVERY = 500  # files
_MB_PER_1000 = 1.0  # growth allowed, after the first quarter
_EVERY_S = 0.25


def _link(images: Sequence[Path], folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        os.link(images[number % len(images)], folder / f"{number:06}.jpeg")


def measure_growth(samples: Sequence[tuple[int, float]]) -> float:
    """Returns the slope of the memory in MB per 1000 images, without the first quarter.

    Args:
      samples: Numbers of images and the memory in MB after them.
    """
    images, memory = np.array(samples, float).T
    late = images >= images[-1] / 4
    if len(set(images[late])) < 2:
        return 0.0
    return float(np.polyfit(images[late], memory[late], 1)[0] * 1000)


def _predict_many(stage: Stage, folder: Path, numbers: Sequence[int]) -> list[Outcome]:
    count = _IMAGES // stage.volume
    _link(stage.images, folder / "images", count)
    line = ("cxr-infer", "predict", "--csv", "--model", stage.model, folder / "images")
    running = stage.commands.spawn(*line)
    samples: list[tuple[int, float]] = [(0, 0.0)]
    while running.poll() is None and samples[-1][1] < 2000:
        running.sleep(_EVERY_S)
        samples.append((running.count_lines(), group_mb(running.pid)))
    done = running.wait(1)
    samples = [sample for sample in samples if sample[0] and sample[1]]
    rows = list(csv.DictReader(done.stdout.splitlines()))
    problem = done.problem
    growth = measure_growth(samples) if len(samples) > 2 else 0.0
    peak = max((memory for _, memory in samples), default=0.0)
    if not problem and (done.code or len(rows) != count):
        problem = f"{len(rows)} rows of {count}, exit code {done.code}: {done.stderr[-500:]}"
    if not problem and growth > _MB_PER_1000 * stage.volume:  # short runs are less exact
        problem = f"memory grows by {growth:.2f} MB per 1,000 images"
    result = f"{count:,} images: {growth:+.3f} MB per 1,000, at most {peak:.0f} MB"
    return [Outcome(number, result, problem) for number in numbers]


def _walk_many(stage: Stage, folder: Path, numbers: Sequence[int]) -> list[Outcome]:
    """Most files are text; predict reports a row for each image, summary counts them."""
    count = _FILES // stage.volume
    images = count // _IMAGE_EVERY
    place = folder / "chest_xray" / "test" / "NORMAL"
    place.mkdir(parents=True)
    for number in range(count):
        path = place / f"{number:06}.{'txt' if number % _IMAGE_EVERY else 'jpeg'}"
        if number % _IMAGE_EVERY:
            path.touch()
        else:
            os.link(stage.images[number // _IMAGE_EVERY % len(stage.images)], path)
    line = ("cxr-infer", "predict", "--csv", "--model", stage.model, folder)
    done = stage.commands.spawn(*line).wait()
    problem = done.problem
    rows = list(csv.DictReader(done.stdout.splitlines()))
    predicted = sum(not row["error"] for row in rows)
    if not problem and predicted != images:
        problem = f"{predicted} predictions of {images} images: {done.stderr[-500:]}"
    counted = stage.commands.spawn("cxr-data", "summary", "--json", folder / "chest_xray").wait()
    problem = problem or counted.problem
    peak = max(done.peak_mb, counted.peak_mb)
    result = f"{count:,} files: at most {peak:.0f} MB"
    return [Outcome(number, result, problem) for number in numbers]


MANY_IMAGES = Kind("predict-20000", _predict_many, batch=1, share=0.1, most=1)
MANY_FILES = Kind("folder-100000", _walk_many, batch=1, share=0.1, most=1)
