"""Peak memory on systems that report them differently."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cxr_tfds.memory import peak_mb

resource = pytest.importorskip("resource")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_grows_with_allocated_memory() -> None:
    """In a new process, because this one may have used gigabytes before."""
    code = """
from cxr_tfds.memory import peak_mb
before = peak_mb()
held = bytearray(b"x") * (2**26 + int(before) * 2**20)
print(before, len(held) / 2**20, peak_mb())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, held, after = map(float, done.stdout.split())
    assert held <= after < 2 * before + 200


@pytest.mark.parametrize(("platform", "unit"), [("linux", 2**10), ("darwin", 2**20)])
@pytest.mark.parametrize("status", ["Name:\tx\n", OSError("no /proc")])
def test_peak_without_proc_status(
    monkeypatch: pytest.MonkeyPatch, platform: str, unit: int, status: str | OSError
) -> None:
    def read_text(path: Path) -> str:
        if isinstance(status, OSError):
            raise status
        return status

    usage = type("Usage", (), {"ru_maxrss": 50 * unit})
    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda who: usage)
    assert peak_mb() == 50
