"""How much memory a process holds, and how much it may take.

Standard library only, so that asking adds nothing to the answer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# Where memory is limited for a group of processes such as a container: the folder of the groups, and in it the
# files of the limit and of what is taken, and the line of `memory.stat` with the part of it that is given back when
# it is asked for. See https://docs.kernel.org/admin-guide/cgroup-v2.html and cgroup-v1/memory.html there.
_GROUPS = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def peak_mb() -> float | None:
    """The most memory this process has held; None where the system does not tell."""
    try:
        # Not getrusage: on Linux it starts with what the parent held.
        (line,) = (
            x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM")
        )
        return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    # macOS counts bytes, others KiB: Linux in a sandbox, too, whose status has no VmHWM.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )


def free_memory(root: Path = Path("/")) -> int:
    """Bytes this process may take without swapping, in its container, too.

    Half the memory where the system does not say what is free, none where it says nothing.

    Args:
      root: of the file system, where Linux tells of itself below `proc` and `sys`.
    """
    return max(0, min([_of_machine(root), *_of_groups(root)]))


def _of_machine(root: Path) -> int:
    try:
        with (root / "proc/meminfo").open(encoding="ascii") as lines:
            return next(
                int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable")
            )
    except (OSError, StopIteration):
        if not hasattr(os, "sysconf"):  # Windows
            return 0
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _of_groups(root: Path) -> Iterator[int]:
    """What is left of each limit set on this process, or on a group that its own is in."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, own = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in _GROUPS:
                folder, *files = _GROUPS[controller]
                # In a container the own group may be called as outside, where nothing of that name is seen.
                for group in (PurePosixPath(own), *PurePosixPath(own).parents):
                    yield from _left(
                        root / "sys/fs/cgroup" / folder / group.relative_to("/"), *files
                    )


def _left(group: Path, limit: str, taken: str, returnable: str) -> Iterator[int]:
    try:
        stat = dict(
            line.split()
            for line in (group / "memory.stat").read_text(encoding="ascii").splitlines()
        )
        limit, taken = ((group / file).read_text(encoding="ascii") for file in (limit, taken))
        yield int(limit) - int(taken) + int(stat.get(returnable, 0))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return
