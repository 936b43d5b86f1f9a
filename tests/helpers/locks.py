"""Another process that holds a lock."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_HOLDER = """
import sys
from pathlib import Path
from cxr_tfds import locks
with getattr(locks, sys.argv[1])(Path(sys.argv[2])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(lock: Callable[..., Any], path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock until its standard input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, lock.__name__, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
