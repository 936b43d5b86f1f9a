"""Runs a flatbuffer in each runtime, in a process of its own, and measures latency and memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.scoring import squeeze_logits

from .edge.runtime import loadable_runtimes
from .operators import explain_too_new

_TIMEOUT_S = 1800
_MAX_IMAGES = 1000  # that are run again in another process


class RuntimeRun(NamedTuple):
    """A flatbuffer in one runtime, one thread, in a process of its own."""

    runtime: str
    version: str
    latency_ms: float  # median of 50 runs
    peak_mb: float | None  # None if the system does not report it
    outputs: np.ndarray  # float32, see `inference.run_in_litert`


def sample_numbers(count: int) -> np.ndarray:
    """Returns which of `count` images other processes run: all, or 1,000 evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, _MAX_IMAGES)).astype(np.int64))


def run_in_runtimes(
    flatbuffer: bytes, images: np.ndarray
) -> tuple[list[RuntimeRun], dict[str, str]]:
    """Runs the flatbuffer in every runtime that can be loaded here.

    Args:
      flatbuffer: Without anything appended.
      images: uint8 (N, S, S, C).

    Returns:
      The runs, and by runtime the reason why it cannot run the flatbuffer. If tflite-runtime cannot
      be loaded here, the versions of the operators decide.
    """
    runs: list[RuntimeRun] = []
    refused = {}
    for runtime in loadable_runtimes():
        try:
            runs.append(run_in_process(flatbuffer, runtime, images))
        except InputError as err:
            refused[runtime] = str(err)
    if "tflite-runtime" not in loadable_runtimes() and (reason := explain_too_new(flatbuffer)):
        refused["tflite-runtime"] = reason
    return runs, refused


def run_in_process(flatbuffer: bytes, runtime: str, images: np.ndarray) -> RuntimeRun:
    """Runs the flatbuffer on uint8 images (N, S, S, C) in a new process, see `probe`.

    Raises:
      InputError: The runtime cannot load or run the flatbuffer, or its process crashed.
    """
    with tempfile.TemporaryDirectory() as folder:
        model, pixels, outputs = (Path(folder) / name for name in ("model", "in.npy", "out.npy"))
        model.write_bytes(flatbuffer)
        np.save(pixels, images)
        command = [sys.executable, "-m", "cxr_tfds.export.probe", runtime, model, pixels, outputs]
        try:
            process = subprocess.run(
                [*map(str, command)], capture_output=True, text=True, timeout=_TIMEOUT_S
            )  # exit codes are reported below
        except subprocess.TimeoutExpired as err:
            raise InputError(f"{runtime} did not run the model within {_TIMEOUT_S} s.") from err
        if process.returncode:
            last_line = process.stderr.strip().rpartition("\n")[2]
            raise InputError(
                f"{runtime} exited with code {process.returncode} while it ran the model. "
                f"{last_line}".rstrip()
            )
        row = json.loads(process.stdout)
        if "error" in row:
            raise InputError(row["error"])
        return RuntimeRun(runtime, **row, outputs=squeeze_logits(np.load(outputs)))
