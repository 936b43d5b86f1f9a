"""Paths of a source, on disk or in a zip: what counts as junk, and which links are refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from cxr_tfds.errors import InputError

FOLLOW_LINKS = "CXR_TFDS_FOLLOW_LINKS"  # environment variable
SPLIT_NAMES = {  # case-folded folder name to split
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_JUNK = ("__macosx", "thumbs.db", "desktop.ini")
_SEARCH_DEPTH = 3  # levels below the given folder; Kaggle zips nest twice
_MAX_NAMES = 10  # in a message


class SourcePath(Protocol):
    """A file or folder of a source: the methods that `pathlib.Path` and paths in a zip share.

    Several threads may read at the same time.
    """

    @property
    def name(self) -> str:
        """The last part of the path."""

    def is_dir(self) -> bool:
        """Returns whether this is a folder."""

    def is_file(self) -> bool:
        """Returns whether this is a file."""

    def iterdir(self) -> Iterator[SourcePath]:
        """Returns the content of a folder."""

    def read_bytes(self) -> bytes:
        """Returns the content of a file."""

    def __truediv__(self, name: str, /) -> SourcePath: ...


def is_junk(name: str) -> bool:
    """Returns whether an archiver or file manager made the file, such as `.DS_Store`."""
    return name.startswith(".") or name.casefold() in _JUNK


def list_children(folder: SourcePath) -> list[SourcePath]:
    """Returns the content of a folder without junk, sorted by name.

    Raises:
      InputError: The folder cannot be read.
    """
    try:
        found = [path for path in folder.iterdir() if not is_junk(path.name)]
        # A folder that can be listed but not entered (chmod 644) would fail for each of its files.
        readable = not isinstance(folder, Path) or os.access(folder, os.X_OK)
    except PermissionError:
        readable = False
    if not readable:
        raise InputError(
            f"Permission denied: {printable(folder)}. "
            "Check its read and execute permissions (chmod u+rx)."
        )
    return sorted(found, key=lambda path: path.name)


def list_subfolders(folder: SourcePath) -> list[SourcePath]:
    """Returns the folders in a folder without junk, sorted by name."""
    return [path for path in list_children(folder) if path.is_dir()]


def find_folders(top: SourcePath, accept: Callable[[SourcePath], bool]) -> list[SourcePath]:
    """Returns all folders that `accept` takes, on the first level that has any.

    The levels are `top` itself and up to three below it. Unreadable folders are skipped.
    """
    level = [top]
    for _ in range(_SEARCH_DEPTH + 1):
        if found := [folder for folder in level if accept(folder)]:
            return found
        level = [below for folder in level for below in _try_list_subfolders(folder)]
    return []


def _try_list_subfolders(folder: SourcePath) -> list[SourcePath]:
    try:
        return list_subfolders(folder)
    except (InputError, OSError):
        return []


def expect_single(found: Sequence[SourcePath], source: Path) -> SourcePath:
    """Returns the only folder found.

    Raises:
      InputError: Several folders were found.
    """
    if len(found) > 1:
        raise InputError(
            f"{source} contains {len(found)} sources:\n{format_rows(found)}\n"
            "Give the path of one of them."
        )
    return found[0]


def printable(path: SourcePath | str) -> str:
    """Returns a path as one line of text: control characters such as newlines are escaped."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def format_names(names: Sequence[str]) -> str:
    """Returns up to ten names on one line, and how many more there are."""
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return (", ".join(map(printable, names[:_MAX_NAMES])) + more) or "nothing"


def format_rows(rows: Sequence[SourcePath | str]) -> str:
    """Returns up to ten paths as indented lines, and how many more there are."""
    lines = [f"  {printable(row)}" for row in rows[:_MAX_NAMES]]
    if len(rows) > _MAX_NAMES:
        lines.append(f"  and {len(rows) - _MAX_NAMES} more")
    return "\n".join(lines)


def summarize_folder(folder: SourcePath) -> str:
    """Returns up to ten names in a folder, junk included, for a message."""
    children = sorted(folder.iterdir(), key=lambda path: path.name)
    return format_names([path.name + "/" * path.is_dir() for path in children])


def check_links(source: Path, paths: Iterable[SourcePath]) -> None:
    """Checks that no link leads out of the source folder, unless CXR_TFDS_FOLLOW_LINKS=1 is set.

    Otherwise a downloaded folder could copy any file of this machine into a dataset.

    Raises:
      InputError: A path leads out of the source. The message lists such paths.
    """
    if os.environ.get(FOLLOW_LINKS) == "1":
        return
    top = os.path.realpath(source)
    # Parent folders are resolved once: resolving 30,000 files one by one takes a second.
    real_folders: dict[str, str] = {}
    outside = []
    for path in paths:
        if not isinstance(path, Path):
            continue  # links inside zips are refused when the zip is opened
        parent, name = os.path.split(path)
        if parent not in real_folders:
            real_folders[parent] = os.path.realpath(parent)
        real = Path(real_folders[parent], name)
        if real.is_symlink():
            real = real.resolve()
        if not real.is_relative_to(top):
            outside.append(f"{printable(path)} -> {printable(real)}")
    if outside:
        raise InputError(
            f"Links must not lead out of {source}. Found {len(outside)}:\n"
            f"{format_rows(outside)}\n"
            f"Copy the files into the folder, or set {FOLLOW_LINKS}=1 if you trust the links."
        )
