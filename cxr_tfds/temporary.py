"""Names of temporary files and folders, which carry the process that writes them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import secrets
import sys
from pathlib import Path

TEMPORARY = ".writing-"
INCOMPLETE = "incomplete."  # TFDS uses the same prefix and ignores such folders when it reads
UNFINISHED = f"{INCOMPLETE}shards."  # folder of complete shards, which the next build continues
_WRITER = r"[0-9a-f]{8}-\d{1,9}"


def writer_name() -> str:
    """Returns the machine and the number of this process, for temporary names."""
    return f"{_machine()}-{os.getpid()}"


def temporary_name(name: str) -> str:
    """Returns a name that no other writer uses and that ends like `name`."""
    return f"{TEMPORARY}{writer_name()}-{secrets.token_hex(4)}-{name}"


@functools.cache
def _machine() -> str:
    """Returns 8 hexadecimal digits for where process numbers count: a machine or a container."""
    import socket

    try:
        container = os.readlink("/proc/self/ns/pid")  # noqa: PTH115, no path
    except OSError:  # not Linux
        container = ""
    return hashlib.sha256(f"{socket.gethostname()} {container}".encode()).hexdigest()[:8]


def remove_abandoned(folder: Path, *, is_locked: bool = False) -> None:
    """Removes temporary files that killed processes left in a folder.

    With `is_locked`, the caller holds the lock under which all of them were written. Otherwise only
    files of processes that ran on this machine and have ended are removed.
    """
    name = re.compile(rf"{re.escape(TEMPORARY)}(?P<writer>{_WRITER})-[0-9a-f]{{8}}-")
    with contextlib.suppress(OSError):  # not ours to remove, or already removed
        for path in folder.iterdir():
            found = name.match(path.name)
            if found and (is_locked or _has_ended(found["writer"])):
                path.unlink()


def _has_ended(writer: str) -> bool:
    machine, _, process = writer.partition("-")
    if machine != _machine() or sys.platform == "win32":  # where signal 0 would end the process
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:  # of another user
        return False
    return False


def final_name(name: str) -> str:
    """Returns the path that a temporary file or folder was going to have."""
    name = re.sub(rf"{re.escape(TEMPORARY)}{_WRITER}-[0-9a-f]{{8}}-", "", name)
    name = name.replace(UNFINISHED, "")
    return re.sub(rf"{re.escape(INCOMPLETE)}{_WRITER}_([^/\\]+)([/\\]new)?", r"\1", name)
