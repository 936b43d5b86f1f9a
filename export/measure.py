"""A flatbuffer in the runtimes that devices have: does it run there, how fast, in how much memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cxr_tfds.errors import InputError

from .check import RUNTIME, flat
from .edge.runtime import RUNTIMES, loadable
from .operators import too_new

_LIMIT_S = 1800  # a process that takes longer hangs
_MOST = 1000  # images that are run once more in another process


class Measured(NamedTuple):
    """A flatbuffer in one runtime, one thread, in a process that holds nothing else."""

    runtime: str
    version: str
    latency_ms: float  # median of 50
    peak_mb: float | None  # None where the system does not tell
    answers: (
        np.ndarray
    )  # of the images that were run: logits float32 (N,) or (N, K), or probabilities (N, K)


def sample(count: int) -> np.ndarray:
    """Which of `count` images are run in other processes: all, or a thousand evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, _MOST)).astype(np.int64))


def in_runtimes(flatbuffer: bytes, images: np.ndarray) -> tuple[list[Measured], dict[str, str]]:
    """Runs the flatbuffer in every runtime that can be loaded here.

    Args:
      flatbuffer: what `to_tflite` gives.
      images: uint8 (N, S, S, C). Only the first is run in LiteRT, which runs in this process as well.

    Returns:
      Where it ran, and by runtime why it cannot run there. tflite-runtime is judged by the versions of
      the operators where it cannot be loaded.
    """
    ran: list[Measured] = []
    refused = {}
    for runtime in loadable():
        try:
            ran.append(
                in_process(flatbuffer, runtime, images[:1] if runtime == RUNTIME else images)
            )
        except InputError as err:
            refused[runtime] = str(err)
    if (why := too_new(flatbuffer)) and "tflite-runtime" not in {
        *refused,
        *(found.runtime for found in ran),
    }:
        refused["tflite-runtime"] = why
    return ran, refused


def runnable(refused: dict[str, str]) -> tuple[str, ...]:
    """The runtimes that can run what was `refused` by others."""
    return tuple(name for name in RUNTIMES if name not in refused)


def in_process(flatbuffer: bytes, runtime: str, images: np.ndarray) -> Measured:
    """Runs the flatbuffer on uint8 images (N, S, S, C) in a process of its own.

    Raises:
      InputError: the runtime cannot load or run it; its process may even crash.
    """
    with tempfile.TemporaryDirectory() as folder:
        model, pixels, answers = (
            Path(folder) / name for name in ("model.tflite", "images.npy", "answers.npy")
        )
        model.write_bytes(flatbuffer)
        np.save(pixels, images)
        command = [sys.executable, "-m", "cxr_tfds.export.probe", runtime, model, pixels, answers]
        try:
            done = subprocess.run(
                [*map(str, command)], capture_output=True, text=True, timeout=_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired as err:
            raise InputError(f"{runtime} did not run the model within {_LIMIT_S} s.") from err
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            raise InputError(
                f"{runtime} ended with code {done.returncode} when it ran the model. {last}".rstrip()
            )
        row = json.loads(done.stdout)
        if "error" in row:
            raise InputError(row["error"])
        return Measured(
            runtime, row["version"], row["latency_ms"], row["peak_mb"], flat(np.load(answers))
        )
