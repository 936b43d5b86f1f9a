"""Explains errors of the operating system: which file, which disk, and what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from cxr_tfds.errors import InputError
from cxr_tfds.temporary import final_name

# What to do about an error; others have no advice.
_ADVICE = {
    errno.ENOTDIR: "A part of the path is a file. Choose another folder.",
    errno.EEXIST: "There is a file of this name. Choose another name.",
    errno.EISDIR: "Give a file, not a folder.",
    errno.EACCES: "Check its permissions, or choose another folder.",
    errno.EPERM: "Check its permissions, or choose another folder.",
    errno.EROFS: "Choose a folder on a disk that can be written.",
    errno.ENOENT: "Check the path.",
    errno.ENOSPC: "Free some space, or choose a folder on another disk.",
    errno.EDQUOT: "Free some space, or choose a folder on another disk.",
    errno.EFBIG: "Raise the limit of file sizes (ulimit -f), or choose a folder on another disk.",
    errno.EIO: "Check the disk and its cables or network, then start again.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OF_DISK = (*_FULL, errno.EROFS, errno.EIO)
_IN_TEXT = (*_OF_DISK, errno.EACCES, errno.EPERM)


class WriteFailed(InputError, OSError):
    """A file or folder that could not be written; what was there before is unchanged."""


def find_os_error(err: BaseException) -> OSError | None:
    """Returns the error of the operating system that caused `err`, or None.

    TensorFlow and HDF5 report it in a text only. Among the causes of `err`, only errors of a disk
    count: a missing file, for example, may have been handled.
    """
    for number, cause in enumerate(_causes(err)):
        if isinstance(cause, OSError) and (code := cause.errno):
            if number == 0 or code in _OF_DISK:
                text = os.strerror(code) if code in _ADVICE else cause.strerror
                return OSError(code, text or os.strerror(code), cause.filename)
            continue
        for code in _OF_DISK if number else _IN_TEXT:
            text = os.strerror(code)
            if found := re.search(rf"(?:^|(\S[^;\n]*); |\W){re.escape(text)}", str(cause)):
                file = found[1] if found[1] and Path(found[1]).parent.is_dir() else None
                return OSError(code, text, file)
    return None


def _causes(err: BaseException | None) -> Iterator[BaseException]:
    while err is not None:
        yield err
        err = err.__cause__ or err.__context__


def explain_os_error(
    err: BaseException, path: Path | None = None, needed: int | None = None
) -> str | None:
    """Returns a message for people about an error of the operating system, or None for others.

    Args:
      err: The error, or one that it caused.
      path: What was being written, if the error does not name it.
      needed: Size in bytes of what was being written, if known.
    """
    if (found := find_os_error(err)) is None:
        return str(err) if isinstance(err, OSError) else None
    code, advice = found.errno or 0, _ADVICE.get(found.errno or 0, "")
    name = final_name(os.fsdecode(found.filename)) if found.filename else path
    if name is None:
        return f"{found.strerror}. {advice}".rstrip()
    disk = _describe_disk(Path(name), code, needed) if code in _OF_DISK else ""
    return f"{found.strerror}: {name}. {disk}{advice}".rstrip()


@contextlib.contextmanager
def explain_writing(path: Path, needed: int | None = None) -> Iterator[None]:
    """Raises a WriteFailed about `path`, of `needed` bytes, if the block cannot write it."""
    try:
        yield
    except Exception as err:
        if (explained := explain_write_error(err, path, needed)) is err:
            raise
        raise explained from err


def explain_write_error(err: Exception, path: Path, needed: int | None = None) -> Exception:
    """Returns a WriteFailed about `path`, or `err` if something else than writing `path` failed."""
    if isinstance(err, InputError) or (found := find_os_error(err)) is None:
        return err
    if found.filename and not _is_part_of(Path(os.fsdecode(found.filename)), path):
        return err  # another file, which the message of the command names
    if not found.filename and found.errno not in _OF_DISK:
        return err
    return WriteFailed(explain_os_error(OSError(found.errno, found.strerror), path, needed))


def _is_part_of(file: Path, path: Path) -> bool:
    """Returns whether a file is in `path`, or is a folder on the way to it."""
    file = Path(final_name(str(file)))
    return path in (file, *file.parents) or file in path.parents


def _describe_disk(path: Path, code: int, needed: int | None) -> str:
    folder = existing_folder(path)
    try:
        mount = folder.resolve()
        while not mount.is_mount() and mount != mount.parent:
            mount = mount.parent
        free = free_megabytes(folder)
    except OSError:  # the disk does not answer
        return ""
    if code not in _FULL:
        return f"The disk mounted at {mount} holds this folder. "
    size = "" if needed is None else f"; the file needs {_format_bytes(needed)}"
    return f"The disk mounted at {mount} has {free:,.1f} MB free now{size}. "


def _format_bytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count:,} bytes"


def existing_folder(path: Path) -> Path:
    """Returns the nearest folder of a path that exists."""
    return next(each for each in path.absolute().parents if each.is_dir())


def free_megabytes(folder: Path) -> float:
    """Returns the free space, in MB, on the disk of `folder`, which need not exist."""
    return shutil.disk_usage(existing_folder(folder / "x")).free / 1e6
