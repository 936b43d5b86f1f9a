"""Runs a flatbuffer in one runtime: `python -m cxr_tfds.export.probe RUNTIME MODEL IMAGES OUTPUTS`.

It is a process of its own because tflite-runtime cannot be loaded next to TensorFlow, and because
memory can only be measured in a process that holds nothing else. MODEL is a flatbuffer, IMAGES an
.npy of uint8 (N, S, S, C). Writes OUTPUTS, an .npy of float32 (N, K), and prints JSON: version,
latency_ms and peak_mb, or error.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.memory import peak_mb
from cxr_tfds.text import to_json

from .edge.benchmark import time_predictions
from .edge.runtime import load

_RUNS = 50


def main() -> None:
    """Runs the probe with the arguments of the command line."""
    runtime, model, pixels, outputs = sys.argv[1:]
    images = np.load(pixels, mmap_mode="r")
    try:
        session = load(Path(model).read_bytes(), runtime)
        seconds = time_predictions(session.run, [np.array(images[:1])], _RUNS)
        latency_ms, version = 1000 * statistics.median(seconds), session.version
        # Before the images, whose pages count as memory of this process.
        row = {"version": version, "latency_ms": latency_ms, "peak_mb": peak_mb()}
        np.save(outputs, [session.run(np.array(image)[np.newaxis]) for image in images])
    except InputError as err:
        row = {"error": str(err)}
    sys.stdout.write(to_json(row) + "\n")


if __name__ == "__main__":
    main()
