"""The memory a process has used. Standard library only."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_mb() -> float | None:
    """Returns the peak memory of this process in MiB; None if the system does not report it.

    Files that are mapped into memory count, although the system can free them at any time.
    """
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
