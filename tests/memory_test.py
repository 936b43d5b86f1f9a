"""Peak and free memory on systems that report them differently."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cxr_tfds.memory import free_memory, peak_mb

resource = pytest.importorskip("resource")

MB = 1 << 20
V2 = "0::/user/run\n"
V1 = "5:devices:/docker/ab\n4:cpu,memory:/docker/ab\n0::/\n"


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


def v2(limit, current, returnable=0):
    stat = f"anon 5\ninactive_file {returnable}\n"
    return {"memory.max": limit, "memory.current": current, "memory.stat": stat}


def v1(limit, usage, returnable=0):
    stat = f"cache 1\ninactive_file 7\ntotal_inactive_file {returnable}\n"
    return {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": usage, "memory.stat": stat}


@pytest.mark.parametrize(
    ("groups", "folders", "free"),
    [
        ("", {}, 1000 * MB),
        (V2, {}, 1000 * MB),
        (V2, {"user/run": v2("max", 50 * MB)}, 1000 * MB),
        (V2, {"user/run": v2(400 * MB, 50 * MB)}, 350 * MB),
        (
            V2,
            {"user/run": v2(400 * MB, 50 * MB, 20 * MB)},
            370 * MB,
        ),  # the page cache is freed on demand
        (V2, {"user/run": v2("max", 50 * MB), "user": v2(300 * MB, 100 * MB)}, 200 * MB),
        (
            V2,
            {"": v2(300 * MB, 200 * MB)},
            100 * MB,
        ),  # in a container the own group is the top one
        (V2, {"user/run": v2(400 * MB, 500 * MB)}, 0),
        (V2, {"user/run": v2(4000 * MB, 50 * MB)}, 1000 * MB),
        (V1, {"memory": v1(600 * MB, 100 * MB, 10 * MB)}, 510 * MB),
        (V1, {"memory/docker/ab": v1(600 * MB, 100 * MB), "memory": v1(1 << 63, 5)}, 500 * MB),
        (
            V1,
            {
                "memory": {
                    "memory.limit_in_bytes": "?",
                    "memory.usage_in_bytes": "",
                    "memory.stat": "",
                }
            },
            1000 * MB,
        ),
    ],
)
def test_smallest_limit_counts(tmp_path, groups, folders, free):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable:    {1000 << 10} kB\n")
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, files in folders.items():
        folder = tmp_path / "sys/fs/cgroup" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (folder / file).write_text(str(content))
    assert free_memory(tmp_path) == free


def test_free_memory_without_proc(tmp_path, monkeypatch):
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert free_memory(tmp_path) == pages // 2
    monkeypatch.delattr(os, "sysconf")  # as on Windows
    assert free_memory(tmp_path) == 0


def test_free_memory_of_this_system():
    assert 0 < free_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
