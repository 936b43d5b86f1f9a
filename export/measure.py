"""Runs a flatbuffer in each runtime, in a process of its own, and measures latency and memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.scoring import squeeze_logits

from .edge.benchmark import run_process
from .edge.runtime import loadable_runtimes
from .operators import explain_too_new

_TIMEOUT_S = 1800
_MAX_IMAGES = 1000  # that are run again in another process


def sample_numbers(count: int) -> np.ndarray:
    """Returns which of `count` images other processes run: all, or 1,000 evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, _MAX_IMAGES)).astype(np.int64))


def run_in_runtimes(
    flatbuffer: bytes, images: np.ndarray
) -> tuple[dict[str, tuple[dict[str, Any], np.ndarray]], dict[str, str]]:
    """Returns by runtime what `run_in_process` returns, or the reason why it cannot run.

    If tflite-runtime cannot be loaded here, the versions of the operators decide.
    """
    ran, refused = {}, {}
    for runtime in loadable_runtimes():
        try:
            ran[runtime] = run_in_process(flatbuffer, runtime, images)
        except InputError as err:
            refused[runtime] = str(err)
    if "tflite-runtime" not in loadable_runtimes() and (reason := explain_too_new(flatbuffer)):
        refused["tflite-runtime"] = reason
    return ran, refused


def run_in_process(
    flatbuffer: bytes, runtime: str, images: np.ndarray
) -> tuple[dict[str, Any], np.ndarray]:
    """Returns what `probe` prints, and the outputs as in `inference.run_in_litert`.

    Raises:
      InputError: The runtime cannot load or run the flatbuffer, or its process crashed.
    """
    with tempfile.TemporaryDirectory() as folder:
        model, pixels, outputs = (Path(folder) / name for name in ("model", "in.npy", "out.npy"))
        model.write_bytes(flatbuffer)
        np.save(pixels, images)
        command = ("-m", "cxr_tfds.export.probe", runtime, model, pixels, outputs)
        return run_process(runtime, command, _TIMEOUT_S), squeeze_logits(np.load(outputs))
