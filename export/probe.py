"""Runs a flatbuffer in one runtime: `python -m cxr_tfds.export.probe RUNTIME MODEL IMAGES OUTPUTS`.

It is a process of its own because tflite-runtime cannot be loaded next to TensorFlow, and because
memory can only be measured in a process that holds nothing else. MODEL is a flatbuffer, IMAGES an
.npy of uint8 (N, S, S, C). Writes OUTPUTS, an .npy of float32 (N, K), and prints JSON: version,
latency_ms and peak_mb, or error.
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
    """Runs the probe with the arguments of the command line."""
    runtime, model, images, outputs = arguments
    try:
        session = load(Path(model).read_bytes(), runtime, threads=1)
        row = _run(session, np.load(images, mmap_mode="r"), Path(outputs))
    except InputError as err:
        row = {"error": str(err)}
    sys.stdout.write(json.dumps(row) + "\n")


def _run(session: Session, images: np.ndarray, outputs: Path) -> dict[str, Any]:
    latency_ms = _latency_ms(session, np.array(images[:1]))
    peak = peak_mb()  # before the images, whose pages count as memory of this process
    np.save(outputs, [session.run(np.array(image)[np.newaxis]) for image in images])
    return {"version": session.version, "latency_ms": latency_ms, "peak_mb": peak}


def _latency_ms(session: Session, pixels: np.ndarray) -> float:
    """Returns the median latency in milliseconds after a warm-up."""
    times = []
    for _ in range(_WARM_UP + _RUNS):
        before = time.perf_counter()
        session.run(pixels)
        times.append(time.perf_counter() - before)
    return 1000 * statistics.median(times[_WARM_UP:])


if __name__ == "__main__":
    main(sys.argv[1:])
