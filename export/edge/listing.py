"""Which files a command works on: named ones, those of folders, standard input. One after the other."""

from __future__ import annotations

import heapq
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.pixels import SUFFIXES

STDIN = "-"
_NAMES_AT_ONCE = 4096  # of a folder held in memory; it is listed anew for each such part


class Found(NamedTuple):
    """A file to answer."""

    name: str
    content: bytes | None = None  # None: not read yet
    error: str | None = None  # why there is nothing to read
    label: int = -1  # class, where a folder tells it


def files(names: Iterable[str]) -> Iterator[Found]:
    """The named files, the images inside the named folders, and standard input for "-"."""
    for name in names:
        if name == STDIN:
            yield (
                Found(name, error="is closed")
                if sys.stdin is None
                else Found(name, content=sys.stdin.buffer.read())
            )
        elif Path(name).is_dir():
            yield from images_in(name)
        else:
            yield Found(name)


def images_in(folder: str | Path) -> Iterator[Found]:
    """Image files by suffix, in sorted order, a folder's own before those of the folders inside it.

    Hidden files are left out. Memory does not grow with the number of files; what is removed
    meanwhile is missed or comes up as an error, and so does a folder that cannot be listed.
    """
    try:
        for entry in _in_order(folder, _is_image):
            # A pipe named like an image would be waited for without end.
            odd = not (entry.is_file() or entry.is_symlink())
            yield Found(entry.path, error="is no regular file" if odd else None)
        for entry in _in_order(folder, _is_folder):
            yield from images_in(entry.path)
    except OSError as err:
        yield Found(str(folder), error=f"cannot be listed: {err.strerror or err}")


def class_folders(
    folder: Path, labels: tuple[str, ...]
) -> tuple[list[tuple[int, Path]], list[str]]:
    """(class, folder) of each folder named like a label, upper or lower case; and the names of the others.

    Raises:
      InputError: a class has no folder.
    """
    classes = {label.casefold(): index for index, label in enumerate(labels)}
    inside = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    places = [
        (classes[path.name.casefold()], path) for path in inside if path.name.casefold() in classes
    ]
    if len({index for index, _ in places}) < len(labels):
        found = ", ".join(path.name for path in inside) or "no folders"
        raise InputError(
            f"{folder} holds {found}; expected a folder for each class: {', '.join(labels)}."
        )
    return sorted(places), [path.name for path in inside if path.name.casefold() not in classes]


def _in_order(
    folder: str | Path, wanted: Callable[[os.DirEntry[str]], bool]
) -> Iterator[os.DirEntry[str]]:
    """Entries sorted by name, without ever holding all of them."""
    last = ""
    while True:
        with os.scandir(folder) as entries:
            following = (entry for entry in entries if entry.name > last and wanted(entry))
            part = heapq.nsmallest(_NAMES_AT_ONCE, following, key=lambda entry: entry.name)
        yield from part
        if len(part) < _NAMES_AT_ONCE:
            return
        last = part[-1].name


def _is_image(entry: os.DirEntry[str]) -> bool:
    # Not by `Path`, which keeps names in the table of interned strings: it grows with the folder.
    suffix = f".{entry.name.rpartition('.')[2].lower()}"
    return suffix in SUFFIXES and not entry.name.startswith(".") and not entry.is_dir()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # __MACOSX repeats the names beside it, without an image inside.
    return (
        not entry.name.startswith(".")
        and entry.name != "__MACOSX"
        and entry.is_dir(follow_symlinks=False)
    )
