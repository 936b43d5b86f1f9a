"""Paths of a source, on disk or in an archive: what counts as junk, and which links are refused."""

from __future__ import annotations

import errno
import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cxr_tfds.deadline import FILE_ADVICE, expect_answer
from cxr_tfds.errors import InputError
from cxr_tfds.regular_files import find_problem
from cxr_tfds.sources.archives.path import ArchivePath, SourcePath, UnreadableEntry
from cxr_tfds.text import printable

FOLLOW_LINKS = "CXR_TFDS_FOLLOW_LINKS"  # environment variable
SPLIT_NAMES = (  # case-folded folder name to split
    dict.fromkeys(("train", "training"), "train")
    | dict.fromkeys(("val", "valid", "validation"), "validation")
    | dict.fromkeys(("test", "testing"), "test")
)
_CONTROL = ("Cc", "Zl", "Zp")  # categories of Unicode: control characters and line breaks
_JUNK = ("__macosx", "thumbs.db", "desktop.ini")
_SEARCH_DEPTH = 3  # levels below the given folder; Kaggle zips nest twice
_MAX_NAMES = 10  # in a message
NEW_ROW = "\n  "  # separator of `join_names` for one name per line


def is_junk(name: str) -> bool:
    """Returns whether an archiver or file manager made the file, such as `.DS_Store`."""
    return name.startswith(".") or name.casefold() in _JUNK


def list_children(folder: SourcePath) -> list[SourcePath]:
    """Returns the content of a folder without junk, sorted by name.

    What is neither a folder nor a regular file is there, too, see `mark_unreadable`.

    Raises:
      InputError: The folder cannot be read.
    """
    try:
        return [path for path in scan_folder(folder) if not is_junk(path.name)]
    except PermissionError:
        raise InputError(
            f"Permission denied: {printable(folder)}. "
            "Check its read and execute permissions (chmod u+rx)."
        ) from None


def scan_folder(folder: SourcePath, *, only_folders: bool = False) -> list[SourcePath]:
    """Returns the content of a folder with junk; raises OSError if it cannot be read."""
    if isinstance(folder, Path):
        # A folder that can be listed but not entered (chmod 644) would fail for each of its files.
        if folder.is_dir() and not os.access(folder, os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        with expect_answer(str(folder), FILE_ADVICE), os.scandir(folder) as entries:
            # Without a system call and a path for each image, where folders are searched.
            chosen = filter(_is_folder, entries) if only_folders else entries
            problems = [(folder / entry.name, find_problem(entry)) for entry in chosen]
        found = [mark_unreadable(path, why) if why else path for path, why in problems]
    else:
        found = [path for path in folder.iterdir() if not only_folders or path.is_dir()]
    return sorted(found, key=lambda path: path.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # A link may lead to itself, which only `isdir` takes.
    return os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()  # noqa: PTH112


def mark_unreadable(path: SourcePath, reason: str) -> ArchivePath:
    """Returns a path with the same name that raises BadImage with the reason when it is read."""
    return ArchivePath(printable(path), UnreadableEntry(reason))


def find_name_problem(name: str) -> str | None:
    """Returns why a name cannot be in an id, or None: ids are lines of UTF-8 in records."""
    if name.isprintable():
        return None
    if name.encode(errors="ignore").decode() != name:
        return "the name is not valid UTF-8. Rename it"
    if any(unicodedata.category(x) in _CONTROL for x in name):
        return "the name contains a line break or another control character. Rename it"
    return None


def list_subfolders(folder: SourcePath) -> list[SourcePath]:
    """Returns the folders in a folder without junk, sorted by name; [] if it cannot be read.

    `walk_files` reports a folder that cannot be read.
    """
    try:
        found = scan_folder(folder, only_folders=True)
    except (InputError, OSError):
        return []
    return [path for path in found if not is_junk(path.name)]


def find_folders(top: SourcePath, accept: Callable[[SourcePath], bool]) -> list[SourcePath]:
    """Returns all folders that `accept` takes, on the first level that has any.

    The levels are `top` itself and up to three below it. Unreadable folders are skipped.
    """
    level = [top]
    for _ in range(_SEARCH_DEPTH + 1):
        if found := [folder for folder in level if accept(folder)]:
            return found
        level = [path for folder in level for path in list_subfolders(folder)]
    return []


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
    return join_names(sorted(x.name + "/" * x.is_dir() for x in scan_folder(folder)))


def leads_out(path: Path, source: Path) -> bool:
    """Returns whether a path leads out of the source, unless CXR_TFDS_FOLLOW_LINKS=1 is set.

    Otherwise a downloaded folder could copy any file of this machine into a dataset.
    """
    # `resolve` fails if a link leads to itself.
    real, top = (Path(os.path.realpath(x)) for x in (path, source))
    return os.environ.get(FOLLOW_LINKS) != "1" and not real.is_relative_to(top)


def check_links(source: Path, paths: Iterable[SourcePath]) -> None:
    """Checks that no table or archive is a link out of the source; `walk_files` checks the images.

    Raises:
      InputError: A path leads out of the source. The message lists such paths.
    """
    outside = [
        f"{path} -> {os.path.realpath(path)}"
        for path in paths
        if isinstance(path, Path) and leads_out(path, source)
    ]
    if outside:
        raise InputError(
            f"Links must not lead out of {source}. Found {len(outside)}:\n"
            f"  {join_names(outside, NEW_ROW)}\n"
            f"Copy the files into the folder, or set {FOLLOW_LINKS}=1 if you trust the links."
        )
