"""Paths of a source, on disk or in an archive: what counts as junk, and which links are refused."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_tfds.errors import InputError

if TYPE_CHECKING:
    from cxr_tfds.sources.archives import SourcePath

FOLLOW_LINKS = "CXR_TFDS_FOLLOW_LINKS"  # environment variable
SPLIT_NAMES = (  # case-folded folder name to split
    dict.fromkeys(("train", "training"), "train")
    | dict.fromkeys(("val", "valid", "validation"), "validation")
    | dict.fromkeys(("test", "testing"), "test")
)
_JUNK = ("__macosx", "thumbs.db", "desktop.ini")
_SEARCH_DEPTH = 3  # levels below the given folder; Kaggle zips nest twice
_MAX_NAMES = 10  # in a message
NEW_ROW = "\n  "  # separator of `join_names` for one name per line


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
        below = []
        for folder in level:
            with contextlib.suppress(InputError, OSError):
                below += list_subfolders(folder)
        level = below
    return []


def printable(path: SourcePath | str) -> str:
    """Returns a path as one line of text: control characters such as newlines are escaped."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def fold_name(name: str) -> str:
    """Returns what names of folders and classes that look the same have in common.

    They may differ in case, in spaces, and in how accents are stored: macOS stores é as two
    characters.
    """
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def join_names(names: Sequence[SourcePath | str], separator: str = ", ") -> str:
    """Returns up to ten names for a message, and how many more there are."""
    shown = [printable(name) for name in names[:_MAX_NAMES]]
    if len(names) > _MAX_NAMES:
        shown.append(f"and {len(names) - _MAX_NAMES} more")
    return separator.join(shown) or "nothing"


def summarize_folder(folder: SourcePath) -> str:
    """Returns up to ten names in a folder, junk included, for a message."""
    return join_names(sorted(path.name + "/" * path.is_dir() for path in folder.iterdir()))


def check_loop(path: Path, above: Sequence[Path]) -> tuple[Path, ...]:
    """Returns the real folders above a folder, for those below it, which links may lead back to.

    Args:
      path: A folder that may be a link.
      above: What the function returned for the folder that holds `path`; empty at the top.

    Raises:
      InputError: The folder is a link to a folder that contains it, possibly by way of others.
    """
    if not path.is_symlink():
        return (*above,)
    parents = (*above, path.parent.resolve())
    if any(parent.is_relative_to(path.resolve()) for parent in parents):
        raise InputError(f"{printable(path)} links to a folder that contains it. Remove it.")
    return parents


def check_links(source: Path, paths: Iterable[SourcePath]) -> None:
    """Checks that no link leads out of the source folder, unless CXR_TFDS_FOLLOW_LINKS=1 is set.

    Otherwise a downloaded folder could copy any file of this machine into a dataset.

    Raises:
      InputError: A path leads out of the source. The message lists such paths.
    """
    if os.environ.get(FOLLOW_LINKS) == "1":
        return
    top = Path(os.path.realpath(source))
    # Parent folders are checked once: checking 30,000 files one by one takes a second.
    inside: dict[str, bool] = {}
    outside = []
    for path in paths:
        if not isinstance(path, Path):
            continue  # an archive that contains links is refused when it is opened
        parent = os.path.split(path)[0]
        if parent not in inside:
            inside[parent] = Path(os.path.realpath(parent)).is_relative_to(top)
        if not inside[parent] or path.is_symlink():
            real = Path(os.path.realpath(path))  # `resolve` fails if a link leads to itself
            if not real.is_relative_to(top):
                outside.append(f"{path} -> {real}")
    if outside:
        raise InputError(
            f"Links must not lead out of {source}. Found {len(outside)}:\n"
            f"  {join_names(outside, NEW_ROW)}\n"
            f"Copy the files into the folder, or set {FOLLOW_LINKS}=1 if you trust the links."
        )
