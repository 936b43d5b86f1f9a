"""A process in which calls of the operating system fail on demand, see `faults.c`.

`FaultyProcess` starts it; the rest of this file runs in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_SOURCE = Path(__file__).with_name("faults.c")
_TESTS = str(_SOURCE.parents[1])


class FaultyProcess:
    """Calls functions in another process.

    Args:
      folder: Where the library is compiled. Only files below its parent can be watched.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("gcc")
        if compiler is None or not sys.platform.startswith("linux"):
            pytest.skip("needs Linux and gcc")
        library = folder / "faults.so"
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"]
        subprocess.run(command, check=True)
        added = {
            "LD_PRELOAD": str(library),
            "CXR_FAULT_LOG": str(folder / "calls"),
            "CXR_FAULT_ROOT": str(folder.parent),
            "PYTHONPATH": os.pathsep.join([_TESTS, os.environ.get("PYTHONPATH", "")]),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | added,
        )

    def call(self, name: str, *arguments: Any) -> Any:
        """Returns what the function `module:name` of the helpers returns for JSON values."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([name, arguments]), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        assert line, f"the process ended: {self._process.wait()}"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


@contextlib.contextmanager
def failing(call: str, path: str, code: int, after: int = 0) -> Iterator[None]:
    """Lets `call` fail on paths that contain `path`, after so many bytes or calls."""
    library = ctypes.CDLL(None)
    library.faults_set(call.encode(), path.encode(), code, ctypes.c_long(after))
    try:
        yield
    finally:
        library.faults_set(b"", b"", 0, ctypes.c_long(0))


@contextlib.contextmanager
def logged() -> Iterator[list[list[str]]]:
    """Yields a list of the calls in the block, each with its paths, filled at its end."""
    calls: list[list[str]] = []
    log = Path(os.environ["CXR_FAULT_LOG"])
    log.unlink(missing_ok=True)
    yield calls
    if log.exists():
        calls += [line.split(" ") for line in log.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Answers calls, one on each line of standard input."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print
    for line in sys.stdin:
        name, arguments = json.loads(line)
        module, _, function = name.partition(":")
        try:
            call = getattr(importlib.import_module(f"helpers.{module}"), function)
            answer = {"result": call(*arguments)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
