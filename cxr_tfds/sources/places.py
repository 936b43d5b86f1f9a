"""A folder or file of a source, on disk or inside a zip, and what counts as junk among them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from cxr_tfds.errors import InputError

FOLLOW_LINKS = "CXR_TFDS_FOLLOW_LINKS"  # environment variable
_JUNK = ("__macosx", "thumbs.db", "desktop.ini")
_SEARCH_DEPTH = 3  # folders below the one given; Kaggle zips nest twice
_NAMED_AT_MOST = 10


class Place(Protocol):
    """What `pathlib.Path` and the entries of a zip have in common. Safe to read from several threads."""

    @property
    def name(self) -> str: ...
    def is_dir(self) -> bool: ...
    def is_file(self) -> bool: ...
    def iterdir(self) -> Iterator[Place]: ...
    def read_bytes(self) -> bytes: ...
    def __truediv__(self, name: str, /) -> Place: ...


def is_junk(place: Place) -> bool:
    """Whether an archiver or a file manager left it: `__MACOSX`, `._*`, `.DS_Store`, `Thumbs.db`."""
    return place.name.startswith(".") or place.name.casefold() in _JUNK


def children(folder: Place) -> list[Place]:
    """What a folder holds, sorted by name, without junk.

    Raises:
      InputError: the folder cannot be read.
    """
    try:
        found = sorted(
            (place for place in folder.iterdir() if not is_junk(place)),
            key=lambda place: place.name,
        )
        # A folder that may be listed but not entered, as `chmod -R 644` leaves it, would fail file by file.
        allowed = not isinstance(folder, Path) or os.access(folder, os.X_OK)
    except PermissionError:
        allowed = False
    if not allowed:
        raise InputError(
            f"{folder} cannot be read: permission denied. Give yourself the permission to."
        )
    return found


def subfolders(folder: Place) -> list[Place]:
    """The folders in a folder, sorted by name, without junk. Raises as `children` does."""
    return [place for place in children(folder) if place.is_dir()]


def search(top: Place, accept: Callable[[Place], bool]) -> list[Place]:
    """The nearest folders that `accept` takes, `top` or below it: all those of the first level with one."""
    level = [top]
    for _ in range(_SEARCH_DEPTH + 1):
        if found := [folder for folder in level if accept(folder)]:
            return found
        level = [below for folder in level for below in _readable_subfolders(folder)]
    return []


def _readable_subfolders(folder: Place) -> list[Place]:
    try:
        return subfolders(folder)
    except (InputError, OSError):  # on the way to a source there may be folders of others
        return []


def listing(folder: Place) -> str:
    """Up to ten names in a folder, for a message."""
    names = [
        place.name + "/" * place.is_dir()
        for place in sorted(folder.iterdir(), key=lambda place: place.name)
    ]
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return (", ".join(names[:_NAMED_AT_MOST]) + more) or "nothing"


def shown(place: Place | str) -> str:
    """A path on one line: a name with a newline or another control character is escaped."""
    text = str(place)
    return text if text.isprintable() else ascii(text)


def check_links(source: Path, places: Iterable[Place]) -> None:
    """Refuses links that lead out of the source folder, unless CXR_TFDS_FOLLOW_LINKS=1 asks for them.

    A folder from elsewhere could otherwise bring any file of this machine into a dataset.

    Raises:
      InputError: there are such links; the message names them.
    """
    if os.environ.get(FOLLOW_LINKS) == "1":
        return
    top = os.path.realpath(source)
    real_folders: dict[
        str, str
    ] = {}  # resolving each file by itself would take a second in 30,000 files
    outside = []
    for path in places:
        if not isinstance(path, Path):
            continue  # links in a zip are refused when it is opened
        parent, name = os.path.split(path)
        if parent not in real_folders:
            real_folders[parent] = os.path.realpath(parent)
        real = Path(real_folders[parent], name)
        if real.is_symlink():
            real = real.resolve()
        if not real.is_relative_to(top):
            outside.append(f"  {shown(path)} -> {shown(real)}")
    if outside:
        more = (
            f"\n  and {len(outside) - _NAMED_AT_MOST} more" if len(outside) > _NAMED_AT_MOST else ""
        )
        rows = "\n".join(outside[:_NAMED_AT_MOST])
        raise InputError(
            f"{len(outside)} of the files are reached by links that lead out of {source}:\n{rows}{more}\n"
            f"Copy the files in, or set {FOLLOW_LINKS}=1 if you put the links there yourself."
        )
