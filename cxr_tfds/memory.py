"""The memory a process has used and the memory it may still take. Standard library only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# Linux limits the memory of process groups such as containers. By name of the controller: the
# folder of the groups, and in it the files with the limit and the usage, and the line of
# `memory.stat` with the part of the usage that is freed on demand. See
# https://docs.kernel.org/admin-guide/cgroup-v2.html and cgroup-v1/memory.html there.
_GROUPS = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def peak_mb() -> float | None:
    """Returns the peak memory of this process in MiB; None if the system does not report it."""
    try:
        # On Linux getrusage starts with the peak of the parent process.
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
    except (OSError, ValueError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    # macOS counts bytes, other systems KiB (among them sandboxed Linux without VmHWM).
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def free_memory(root: Path = Path("/")) -> int:
    """Returns how many bytes this process may take without swapping, also within a container.

    If the system does not report its free memory, this is half of all memory, or 0 if that is
    unknown as well.
    """
    return max(0, min([_free_in_machine(root), *_free_in_groups(root)]))


def _free_in_machine(root: Path) -> int:
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        if not hasattr(os, "sysconf"):  # Windows
            return 0
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _free_in_groups(root: Path) -> Iterator[int]:
    """Yields the rest of each limit on this process's group and on the groups above it."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, own = line.split(":", 2)
        for controller in set(controllers.split(",")) & set(_GROUPS):
            folder, *files = _GROUPS[controller]
            # A container may report the group's path outside, which does not exist inside.
            for group in (PurePosixPath(own), *PurePosixPath(own).parents):
                path = root / "sys/fs/cgroup" / folder / group.relative_to("/")
                yield from _free_in_group(path, *files)


def _free_in_group(group: Path, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    try:
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        stat = dict(line.split() for line in lines)
        limit, usage = ((group / file).read_text(encoding="ascii") for file in (limit, usage))
        yield int(limit) - int(usage) + int(stat.get(reclaimable, 0))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return
