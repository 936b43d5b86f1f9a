"""Reads files that others made: regular files only, without waiting. Standard library only.

A folder of images may hold pipes, devices, sockets and links that lead nowhere. Each is one bad
item with a reason, and the other files are read.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from os import PathLike
from typing import IO, Protocol

from cxr_tfds.deadline import FILE_ADVICE, Wait, expect_answer
from cxr_tfds.errors import BadImage
from cxr_tfds.limits import check_file_size, max_file_bytes

_KINDS = (
    (stat.S_ISDIR, "a folder, not a file"),
    (stat.S_ISFIFO, "a pipe, not a regular file"),
    (stat.S_ISSOCK, "a socket, not a regular file"),
    (stat.S_ISCHR, "a device, not a regular file"),
    (stat.S_ISBLK, "a device, not a regular file"),
)
_REASONS = {
    errno.ENOENT: "no longer exists",
    errno.ELOOP: "a link that leads to itself",
    errno.EACCES: "permission denied. Check the permissions (chmod u+r)",
}
DENIED_FOLDER = "permission denied. Check its read and execute permissions (chmod u+rx)"
_PART_BYTES = 1 << 20
_BROKEN_LINK = "a link to a file that does not exist"


class Readable(Protocol):
    """A file that is not on disk, such as an entry of an archive."""

    @property
    def file_size(self) -> int:
        """Number of bytes of the content."""

    def read_bytes(self) -> bytes:
        """Returns the content."""


def read_regular_file(path: str | PathLike[str]) -> bytes:
    """Returns the content of a regular file.

    Raises:
      BadImage: The path is a pipe, a device, a socket or a folder; the file is larger than allowed,
        see `cxr_tfds.limits`; or its size changes while it is read: one that grows might never end.
      OSError: The file cannot be read.
    """
    with expect_answer(os.fsdecode(path), FILE_ADVICE) as wait:
        # `Path` keeps names; opening changes some devices.
        _check_regular(os.stat(path))  # noqa: PTH116
        # Unbuffered, because a buffer would copy what is read at once.
        with open(path, "rb", buffering=0, opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            _check_regular(status)
            check_file_size(status.st_size)
            data = b"".join(_read_parts(file, status.st_size + 1, wait))
    if len(data) != status.st_size:
        raise BadImage(f"changed while it was read; it had {status.st_size:,} bytes")
    return data


def _read_parts(file: io.FileIO, size: int, wait: Wait) -> Iterator[bytes]:
    """Yields up to `size` bytes in parts; each part has its own deadline."""
    while size and (part := file.read(min(size, _PART_BYTES))):
        wait.restart()
        yield part
        size -= len(part)


def read_content(file: str | PathLike[str] | Readable) -> bytes:
    """Returns the content of a file on disk, as `read_regular_file`, or in an archive."""
    if isinstance(file, (str, PathLike)):
        return read_regular_file(file)
    check_file_size(file.file_size)
    return file.read_bytes()


def read_stream(stream: IO[bytes]) -> bytes | BadImage:
    """Returns the content of standard input, or the reason why it is not read completely."""
    try:
        data = stream.read(max_file_bytes() + 1)
        check_file_size(len(data))
    except BadImage as err:
        return BadImage(err.reason)
    return data


def read_or_explain(file: str | PathLike[str] | Readable) -> bytes | BadImage:
    """Returns the content of a file, or the reason why it cannot be read."""
    try:
        return read_content(file)
    except BadImage as err:
        return BadImage(err.reason)  # without its traceback
    except OSError as err:
        return BadImage(explain_unreadable(err))


def explain_unreadable(err: OSError) -> str:
    """Returns why a file cannot be read, without its name."""
    return _REASONS.get(err.errno or 0) or f"cannot be read: {err.strerror or err}"


def find_problem(entry: os.DirEntry[str]) -> str | None:
    """Returns why an entry of a folder is neither a folder nor a regular file, or None if it is.

    Links are followed. Nothing is opened.
    """
    try:
        if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False):
            return None
        mode = entry.stat().st_mode
    except FileNotFoundError:
        return _BROKEN_LINK if entry.is_symlink() else _REASONS[errno.ENOENT]
    except OSError as err:
        return explain_unreadable(err)
    return None if stat.S_ISDIR(mode) else _name_kind(mode)


def _check_regular(status: os.stat_result) -> None:
    if kind := _name_kind(status.st_mode):
        raise BadImage(kind)


def _name_kind(mode: int) -> str | None:
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), None)


def _open_without_waiting(path: str, flags: int) -> int:
    # Opening a pipe would wait for its writer. Windows has neither.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
