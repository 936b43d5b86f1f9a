"""A process of its own for one runtime: `python -m cxr_tfds.export.probe RUNTIME MODEL IMAGES ANSWERS`.

tflite-runtime cannot be loaded beside TensorFlow, and memory can only be told of a process that holds
nothing else. MODEL is a flatbuffer, IMAGES an .npy of uint8 (N, S, S, C); writes ANSWERS, an .npy of
float32 (N, K), and prints JSON: version, latency_ms, peak_mb, or error.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.memory import peak_mb

from .edge.runtime import Session, load

_WARM_UP, _RUNS = 5, 50


def main(arguments: Sequence[str]) -> None:
    runtime, model, images, answers = arguments
    try:
        session = load(Path(model).read_bytes(), runtime, threads=1)
        row = _run(session, np.load(images, mmap_mode="r"), Path(answers))
    except InputError as err:
        row = {"error": str(err)}
    sys.stdout.write(json.dumps(row) + "\n")


def _run(session: Session, images: np.ndarray, answers: Path) -> dict[str, Any]:
    first = np.array(images[:1])
    latency_ms = _latency_ms(session, first)
    peak = peak_mb()  # before the images, whose pages count as this process's
    np.save(answers, [session.run(np.array(image)[np.newaxis]) for image in images])
    return {"version": session.version, "latency_ms": latency_ms, "peak_mb": peak}


def _latency_ms(session: Session, pixels: np.ndarray) -> float:
    """Median of a run, one thread, after the warm-up."""
    times = []
    for _ in range(_WARM_UP + _RUNS):
        before = time.perf_counter()
        session.run(pixels)
        times.append(time.perf_counter() - before)
    return 1000 * statistics.median(times[_WARM_UP:])


if __name__ == "__main__":
    main(sys.argv[1:])
