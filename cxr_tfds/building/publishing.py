"""A dataset folder is written by one process at a time, whole or not at all, and never lost."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from cxr_tfds.errors import InputError

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

# What TFDS calls a folder that is not whole yet; it deletes it itself unless it is killed.
_INCOMPLETE = "incomplete."
_REPLACED = "replaced"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def only_build(folder: Path) -> Iterator[None]:
    """Keeps other processes from building `folder`, and clears away what killed ones left of it.

    The lock is on the folder above and ends with the process, however it ends. Where the file system
    knows no locks two builds are not kept apart: TFDS then lets the first one publish.

    Raises:
      InputError: another process builds it, or no folder can be made there.
    """
    with _locked(folder.parent) as locked:
        if locked:
            _clear(folder)
        yield


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise InputError(
            f"{folder} cannot be made: {err.strerror}. Choose another --data_dir."
        ) from err
    handle = None
    try:
        if fcntl is None:
            yield False
            return
        try:
            handle = os.open(folder, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"Another process is building in {folder}. Wait until it is done, then start again; "
                "what it publishes is used as it is."
            ) from None
        except OSError as err:
            logging.warning(
                "%s cannot be locked (%s): take care that nothing else builds there.",
                folder,
                err.strerror,
            )
            yield False
            return
        yield True
    finally:
        if handle is not None:
            os.close(handle)


def _clear(folder: Path) -> None:
    """Removes what builds of `folder` that were killed left beside it."""
    for left in sorted(folder.parent.glob(f"{_INCOMPLETE}*_{folder.name}")):
        if (left / _REPLACED).is_dir() and not folder.exists():  # killed between two renames
            (left / _REPLACED).rename(folder)
        logging.info("Removing %s, left by a build that was killed.", left)
        shutil.rmtree(left)


@contextlib.contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, under a name nothing reads; removed at the end."""
    path = folder.parent / f"{_INCOMPLETE}{os.getpid()}_{folder.name}"
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def swap(folder: Path, new: Path, room: Path) -> None:
    """Puts `new` in the place of `folder`; what stood there ends in `room`, which is on the same disk."""
    folder.rename(room / _REPLACED)
    try:
        new.rename(folder)
    except OSError:
        (room / _REPLACED).rename(folder)
        raise


def disk_is_full(err: BaseException | None) -> bool:
    """Whether `err`, or what it was raised from, says that no space was left."""
    while err is not None:
        if isinstance(err, OSError) and err.errno in _DISK_FULL:
            return True
        # TensorFlow's errors carry the text only.
        if any(os.strerror(code) in str(err) for code in _DISK_FULL):
            return True
        err = err.__cause__ or err.__context__
    return False


def full_disk_message(folder: Path) -> str:
    """What to say when no space was left while `folder` was written."""
    above = next(parent for parent in folder.parents if parent.exists())
    free = shutil.disk_usage(above).free / 1e6
    return (
        f"The disk is full: {above} has {free:,.0f} MB free now, what was half built is removed. Nothing was "
        "published. Make room, or choose another --data_dir, and build again."
    )
