"""Lists and reads the files that a command works on: named files, folders and standard input.

Names are strings: `Path` interns the parts of every name, and in Python 3.12 they are never freed,
so memory would grow with a folder.
"""

from __future__ import annotations

import heapq
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cxr_tfds.errors import BadImage, InputError, MissingData
from cxr_tfds.imaging.pixels import SUFFIXES
from cxr_tfds.regular_files import DENIED_FOLDER, find_problem, read_regular_file, read_stream

if TYPE_CHECKING:
    from cxr_tfds.sources import SourcePath

STDIN = "-"
_LINKED_FOLDER = "a link to a folder, which is not followed. Give that folder, too"
_NAMES_AT_ONCE = 4096  # of a folder held in memory; the folder is listed again for the next names


class InputFile(NamedTuple):
    """A file to predict."""

    name: str
    content: bytes | BadImage | None = None  # None: read the file when it is needed
    path: SourcePath | None = None  # where it is, if it may be in an archive; None: at its name
    folder: str = ""  # that was named and holds the file, if any

    @property
    def shared_name(self) -> str:
        """The name without the folders above what was named, for a page that others may read."""
        named = os.path.abspath(self.folder or self.name)  # noqa: PTH100, see above
        return os.path.relpath(self.name, os.path.split(named)[0])


def read_named_file(name: str | PathLike[str], expected: str) -> bytes:
    """Returns the contents of a file that a user named, or raises MissingData or InputError."""
    try:
        return read_regular_file(name)
    except BadImage as err:
        raise InputError(f"{name}: {err.reason}; expected {expected}.") from err
    except FileNotFoundError as err:
        raise MissingData(f"{name} does not exist; expected {expected}.") from err
    except OSError as err:
        raise InputError(f"{name} cannot be read: {err.strerror or err}.") from err


def check_folders(names: Iterable[str]) -> None:
    """Raises an InputError if one of the names is a folder without images."""
    for folder in filter(Path.is_dir, map(Path, names)):
        if next(list_images(folder), None) is None:
            raise InputError(f"{folder} contains no images ({' '.join(sorted(SUFFIXES))}).")


def list_files(names: Iterable[str], skip: Path | None = None) -> Iterator[InputFile]:
    """Yields named files, the images in named folders, and standard input for "-".

    `skip` is a folder inside one of them, which a command writes to.
    """
    for name in names:
        if name == STDIN:
            is_closed = sys.stdin is None
            content = BadImage("closed") if is_closed else read_stream(sys.stdin.buffer)
            yield InputFile(name, content)
        elif Path(name).is_dir():
            yield from list_images(name, skip)
        else:
            yield InputFile(name)


def list_images(
    folder: str | PathLike[str], skip: Path | None = None, top: str = ""
) -> Iterator[InputFile]:
    """Yields image files by suffix, sorted, the files of a folder before its subfolders.

    Hidden files are ignored. Memory does not grow with the number of files, which may be removed
    meanwhile. What cannot be read, such as a folder without permission, is yielded with the reason.

    Args:
      folder: Where to begin.
      skip: A folder inside it, which a command writes to.
      top: The folder that the user named, by default `folder`.
    """
    top = top or os.fspath(folder)
    try:
        for entry in _sorted_entries(folder, _is_image):
            problem = find_problem(entry)
            yield InputFile(entry.path, BadImage(problem) if problem else None, folder=top)
        for entry in _sorted_entries(folder, _is_folder):
            if entry.is_symlink():
                yield InputFile(entry.path, BadImage(_LINKED_FOLDER), folder=top)
            elif skip is None or not skip.samefile(entry.path):
                yield from list_images(entry.path, skip, top)
    except PermissionError:
        yield InputFile(str(folder), BadImage(DENIED_FOLDER), folder=top)
    except OSError as err:
        reason = f"cannot be listed: {err.strerror or err}"
        yield InputFile(str(folder), BadImage(reason), folder=top)


def _sorted_entries(
    folder: str | PathLike[str], is_wanted: Callable[[os.DirEntry[str]], bool]
) -> Iterator[os.DirEntry[str]]:
    """Yields entries sorted by name without holding all of them."""
    last = ""
    while True:
        with os.scandir(folder) as entries:
            following = (entry for entry in entries if entry.name > last and is_wanted(entry))
            part = heapq.nsmallest(_NAMES_AT_ONCE, following, key=lambda entry: entry.name)
        yield from part
        if len(part) < _NAMES_AT_ONCE:
            return
        last = part[-1].name


def _is_image(entry: os.DirEntry[str]) -> bool:
    suffix = f".{entry.name.rpartition('.')[2].lower()}"
    return suffix in SUFFIXES and not entry.name.startswith(".") and not _leads_to_folder(entry)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # __MACOSX repeats the names of images without their contents.
    is_ignored = entry.name.startswith(".") or entry.name == "__MACOSX"
    return not is_ignored and _leads_to_folder(entry)


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder without permission
        return False
