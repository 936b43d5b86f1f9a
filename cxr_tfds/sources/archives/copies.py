"""Keeps decompressed copies of what has no random access, until the process ends."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.os_errors import free_megabytes

_log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20
_copies: dict[tuple[str, int, int, str], str] = {}
_lock = threading.Lock()


def decompress_once(
    archive: Path, name: str, open_stream: Callable[[], IO[bytes]], max_bytes: int
) -> str:
    """Returns the path of a temporary file with decompressed content, made on first use.

    The file is in the system's folder for temporary files and is removed when the process ends.

    Args:
      archive: The file that holds the content. If it changes, a new copy is made.
      name: Which part of the archive is decompressed; "" for all of it.
      open_stream: Opens the decompressed content. The caller handles the errors of this stream.
      max_bytes: Upper limit for the decompressed content.

    Raises:
      InputError: The content is larger than the limit, or cannot be written.
    """
    status = archive.stat()
    key = (os.path.realpath(archive), status.st_mtime_ns, status.st_size, name)
    with _lock:
        if not Path(_copies.get(key, "")).is_file():
            _copies[key] = _decompress(archive, open_stream, max_bytes)
        return _copies[key]


def _decompress(archive: Path, open_stream: Callable[[], IO[bytes]], max_bytes: int) -> str:
    try:
        handle, path = tempfile.mkstemp(prefix="cxr-tfds-", suffix=".decompressed")
    except OSError as err:
        raise _explain_write_error(archive, err) from err
    atexit.register(_remove, path, os.getpid())
    _log.info("Decompressing %s into %s.", archive, path)
    size = 0
    try:
        with open_stream() as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                size += len(chunk)
                if size > max_bytes:
                    raise InputError(
                        f"{archive} decompresses to more than {max_bytes:,} bytes, too many for "
                        "its size. Do not trust this file. Download it again."
                    )
                _write(archive, handle, chunk)
    except BaseException:
        _remove(path, os.getpid())
        raise
    finally:
        os.close(handle)
    return path


def _write(archive: Path, handle: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[os.write(handle, rest) :]
    except OSError as err:
        raise _explain_write_error(archive, err) from err


def _explain_write_error(archive: Path, err: OSError) -> InputError:
    try:
        folder = tempfile.gettempdir()
        free = f" ({free_megabytes(Path(folder)):,.0f} MB free)"
    except OSError:  # no folder for temporary files
        folder, free = "a temporary folder", ""
    return InputError(
        f"Cannot decompress {archive} into {folder}{free}: {err.strerror or err}. Set TMPDIR to a "
        "folder with more space, or extract the archive and give the folder."
    )


def _remove(path: str, process: int) -> None:
    if os.getpid() == process:  # a forked process does not own the copy
        with contextlib.suppress(OSError):
            Path(path).unlink()


def read_part(archive: str, file: str, offset: int, size: int) -> bytes:
    """Returns `size` bytes of `file`: the archive, or its decompressed copy.

    Raises:
      BadImage: The file ends before the part.
      InputError: The decompressed copy does not exist.
    """
    try:
        with Path(file).open("rb") as stream:
            stream.seek(offset)
            data = stream.read(size)
    except FileNotFoundError as err:
        if file == archive:
            raise
        raise InputError(
            f"{archive} is compressed, and its decompressed copy {file} does not exist here. The "
            "copy is on the machine that listed the images, until that process ends. Extract the "
            "archive and give the folder."
        ) from err
    if len(data) != size:
        raise BadImage("corrupt in the archive: it ends early")
    return data
