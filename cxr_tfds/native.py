"""Loading TensorFlow without the log lines of its C++ code."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from cxr_tfds.text import say


@contextlib.contextmanager
def suppress_native_stderr() -> Iterator[None]:
    """Sends file descriptor 2, where C++ code logs, to the null device."""
    try:
        saved = os.dup(2)
    except OSError:  # the process has no stderr
        yield
        return
    try:
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def load_tensorflow() -> None:
    """Imports TensorFlow without its log lines, after a line on stderr, because it takes seconds.

    Commands call this before they import modules that use it, and after the checks that do not.
    """
    if "tensorflow" not in sys.modules:
        say("Loading TensorFlow …")
    # By default C++ code logs its search for GPUs and every conversion.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Otherwise every process takes all memory of a GPU, also one that only reads, such as a worker
    # of a data service, and the training next to it finds none.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    with suppress_native_stderr():
        importlib.import_module("tensorflow")
