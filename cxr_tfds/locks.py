"""Keeps processes from writing one folder or file at the same time. Standard library only.

The lock is an advisory lock of the operating system on a small file, which names the holder. It
ends with the process that holds it, however that process ends. The package filelock is not used:
some of its versions empty the file when they look at it, and without `flock` it falls back to a
file that a killed process leaves behind.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.os_errors import explain_writing
from cxr_tfds.temporary import remove_abandoned

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_log = logging.getLogger(__name__)

LOCK = ".cxr-tfds.lock"  # in a locked folder; next to others their name is before it
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_OFFSET = 1 << 30  # of the byte that Windows locks: others may read the text before it


class _Held(NamedTuple):
    """A lock of this process."""

    thread: int
    handle: int  # of the open lock file
    is_locked: bool  # False on a file system without locks


_held: dict[str, _Held] = {}  # by the real path of the lock file


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[bool]:
    """Locks a folder that files are written to, and creates it if necessary.

    Removes temporary files that killed processes left in it. Yields whether the lock is held. On a
    file system without locks it is not, and a warning is logged. The thread that holds a lock may
    lock the same folder again.

    Raises:
      InputError: Another process or thread writes the folder, or it cannot be written.
    """
    held = _held.get(os.path.realpath(folder / LOCK))
    if held is not None and held.thread == threading.get_ident():
        yield held.is_locked
        return
    with _lock(folder / LOCK, folder) as is_locked:
        remove_abandoned(folder, is_locked=is_locked)
        yield is_locked


@contextlib.contextmanager
def lock_path(path: Path) -> Iterator[bool]:
    """Locks a file, or a folder that is replaced by another, and creates its parent if necessary.

    Yields and raises as `lock_folder`, but the thread that holds the lock is refused, too.
    """
    with _lock(path.with_name(f".{path.name}{LOCK}"), path) as is_locked:
        yield is_locked


@contextlib.contextmanager
def _lock(lock: Path, path: Path) -> Iterator[bool]:
    missing = [folder for folder in (lock.parent, *lock.parent.parents) if not folder.exists()]
    try:
        try:
            with explain_writing(lock.parent):
                lock.parent.mkdir(parents=True, exist_ok=True)
                held = _Held(threading.get_ident(), *_acquire(lock))
        except BlockingIOError:
            raise InputError(
                f"{path} is being written by {_read_holder(lock)}. Wait until it has finished, "
                "then start again."
            ) from None
        if not held.is_locked:
            _log.warning(
                "The file system of %s has no locks. Do not start another command that writes "
                "there.",
                path,
            )
        key = os.path.realpath(lock)
        _held[key] = held
        try:
            yield held.is_locked
        finally:
            if _held.pop(key, None) is held:  # not in a forked process
                _release(lock, held.handle)
    finally:
        for folder in missing:
            with contextlib.suppress(OSError):  # used, or never created
                folder.rmdir()


def _acquire(lock: Path) -> tuple[int, bool]:
    """Returns an open lock file and whether it is locked; raises BlockingIOError if others do."""
    while True:
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:
            handle = os.open(lock, os.O_RDONLY)  # left by the killed process of another user
        try:
            is_locked = _try_lock(handle)
            with contextlib.suppress(FileNotFoundError):
                # The last holder may have removed the file between opening and locking it.
                if os.path.samestat(os.fstat(handle), lock.stat()):
                    with contextlib.suppress(OSError):  # a full disk; the lock holds anyway
                        os.truncate(handle, 0)
                        os.write(handle, json.dumps(_describe_process()).encode())
                    return handle, is_locked
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            os.lseek(handle, _OFFSET, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        if sys.platform == "win32" and err.errno in (errno.EACCES, errno.EDEADLK):
            raise BlockingIOError(err.errno, err.strerror) from err
        if err.errno in _UNSUPPORTED:
            return False
        raise
    return True


def _release(lock: Path, handle: int) -> None:
    # Removed while it is locked, so that nobody else's lock is removed. Windows removes no open
    # file; there the next holder may keep it.
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            lock.unlink()
    os.close(handle)
    if sys.platform == "win32":
        with contextlib.suppress(OSError):
            lock.unlink()


def _describe_process() -> dict[str, object]:
    import datetime
    import shlex
    import socket

    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M:%S} UTC",
        "command": shlex.join([os.path.split(sys.argv[0])[1], *sys.argv[1:]]),
    }


def _read_holder(lock: Path) -> str:
    try:
        holder = json.loads(lock.read_text(encoding="utf-8"))
        return "process {process} on {host} since {since}: {command}".format(**holder)
    except (OSError, ValueError, LookupError, TypeError):  # it has only just begun
        return "another process"


def _forget_locks() -> None:
    """Closes the lock files in a forked process, which would keep them locked for its parent."""
    for held in _held.values():
        with contextlib.suppress(OSError):
            os.close(held.handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)
