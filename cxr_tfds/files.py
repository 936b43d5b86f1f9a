"""Writes files and folders so that they are complete or absent. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cxr_tfds.errors import InputError

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)

_TEMPORARY = ".writing-"
_ABANDONED_AFTER_S = 24 * 3600.0  # a temporary file older than this has lost its writer
_INCOMPLETE = "incomplete."  # TFDS uses the same prefix and ignores such folders when it reads
_REPLACED = "replaced"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder and renames it to `path` if the block succeeds.

    The temporary name is unique for each writer and ends like `path`. Temporary files of killed
    writers are removed after a day.
    """
    remove_abandoned(path.parent)
    temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Removes temporary files that killed writers left in `folder` more than a day ago."""
    for path in folder.glob(f"{_TEMPORARY}{'[0-9a-f]' * 16}-*"):
        with contextlib.suppress(OSError):  # not ours to remove, or already removed
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                path.unlink()


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as indented JSON, complete or not at all."""
    with complete_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check_new_folder(folder: Path, *, overwrite: bool, resume: bool | None = None) -> None:
    """Raises an InputError if `folder` is a file, or is not empty and may not be changed.

    `overwrite` allows to write to it anyway, `resume` to continue it; None if the command cannot.
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file; expected a folder to write to.")
    if overwrite or resume or not folder.exists() or not any(folder.iterdir()):
        return
    resuming = "" if resume is None else " or --resume to continue"
    raise InputError(
        f"{folder} exists and is not empty. Choose another folder, or add --overwrite to "
        f"write to it anyway{resuming}."
    )


@contextlib.contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """Yields a new folder next to `folder`, on the same disk, and removes it at the end."""
    path = folder.with_name(f"{_INCOMPLETE}{os.getpid()}_{folder.name}")
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def replace_folder(folder: Path, new: Path, temporary: Path) -> None:
    """Renames `new` to `folder` and moves the previous `folder` into `temporary`, on the same disk.

    If the process is killed between the two renames, `lock_folder` restores the previous folder.
    """
    folder.rename(temporary / _REPLACED)
    try:
        new.rename(folder)
    except OSError:
        (temporary / _REPLACED).rename(folder)
        raise


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing `folder` and removes what killed writers left of it.

    The lock is on the parent folder and ends with the process. On a file system without locks,
    several writers are not kept apart and nothing is removed.

    Raises:
      InputError: Another process holds the lock, or the parent folder cannot be created.
    """
    parent = folder.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise InputError(
            f"Cannot create {parent}: {err.strerror}. Choose another --data_dir."
        ) from err
    if fcntl is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            handle = os.open(parent, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"Another process is building in {parent}. Wait until it has finished, then start "
                "again; the dataset it publishes is reused."
            ) from None
        except OSError as err:
            _log.warning(
                "Cannot lock %s (%s). Do not start another build there.", parent, err.strerror
            )
        else:
            _remove_incomplete(folder)
        yield


def _remove_incomplete(folder: Path) -> None:
    for path in sorted(folder.parent.glob(f"{_INCOMPLETE}*_{folder.name}")):
        if (path / _REPLACED).is_dir() and not folder.exists():  # killed between two renames
            (path / _REPLACED).rename(folder)
        _log.info("Removing %s, left by a killed process.", path)
        shutil.rmtree(path)


# What to do about an error of the operating system; others have no advice.
_ADVICE = {
    errno.ENOTDIR: "A part of the path is a file. Choose another folder.",
    errno.EISDIR: "Give a file, not a folder.",
    errno.EACCES: "Check its permissions, or choose another folder.",
    errno.EPERM: "Check its permissions, or choose another folder.",
    errno.EROFS: "Choose a folder on a disk that can be written.",
    errno.ENOENT: "Check the path.",
    errno.ENOSPC: "Free some space, or choose a folder on another disk.",
    errno.EDQUOT: "Free some space, or choose a folder on another disk.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


def explain_os_error(err: OSError) -> str:
    """Returns a message for people, with the name that a temporary file was going to have."""
    if not err.strerror:
        return str(err)
    advice = _ADVICE.get(err.errno or 0, "")
    if not err.filename:
        return f"{err.strerror}. {advice}".rstrip()
    name = re.sub(rf"{re.escape(_TEMPORARY)}[0-9a-f]{{16}}-", "", os.fsdecode(err.filename))
    name = re.sub(rf"{re.escape(_INCOMPLETE)}\d+_", "", name)
    return f"{err.strerror}: {name}. {advice}".rstrip()


def is_disk_full(err: BaseException | None) -> bool:
    """Returns whether `err` or one of its causes reports that no space is left."""
    while err is not None:
        if isinstance(err, OSError) and err.errno in _DISK_FULL:
            return True
        # TensorFlow's errors carry the text only.
        if any(os.strerror(code) in str(err) for code in _DISK_FULL):
            return True
        err = err.__cause__ or err.__context__
    return False


def free_megabytes(folder: Path) -> float:
    """Returns the free space, in MB, on the disk of `folder`, which need not exist."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free / 1e6
