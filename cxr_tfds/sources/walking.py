"""Walks through the files of a folder, on disk or in an archive."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.pixels import SUFFIXES
from cxr_tfds.regular_files import DENIED_FOLDER, explain_unreadable
from cxr_tfds.sources.archives import ArchivePath, SourcePath
from cxr_tfds.sources.archives.path import UnreadableEntry
from cxr_tfds.sources.paths import (
    FOLLOW_LINKS,
    find_name_problem,
    is_junk,
    leads_out,
    mark_unreadable,
    scan_folder,
)
from cxr_tfds.text import printable

_OUTSIDE = (
    "a link out of the source. Copy what it links to into the source, or set "
    f"{FOLLOW_LINKS}=1 if you trust the links"
)
_LOOP = "a link to a folder that contains it. Remove it"


def walk_files(
    folder: SourcePath, nested: bool, *, source: Path | None
) -> Iterator[tuple[str, SourcePath]]:
    """Yields each file of a folder with its path below it, in the order of the names.

    Whatever cannot be read is yielded like a file, and raises BadImage with the reason when it is
    read: a pipe, a device, a link that leads nowhere, to itself or out of the source, a name that
    is not text. So is a folder that cannot be listed or contains itself; its path ends with "/".

    Args:
      folder: Where to begin.
      nested: Whether to walk through the folders below.
      source: The source that holds `folder`. Links out of it are not followed. None if nothing is
        read.

    Raises:
      InputError: There is a folder, but not `nested`, or archives have different files of one name.
    """
    yield from _walk(folder, nested, "", source, None)


def find_problem_of(path: SourcePath) -> str | None:
    """Returns why `walk_files` marked a path as unreadable, or None."""
    entry = path.entry if isinstance(path, ArchivePath) else None
    return entry.reason if isinstance(entry, UnreadableEntry) else None


def _walk(
    folder: SourcePath,
    nested: bool,
    prefix: str,
    source: Path | None,
    above: Sequence[Path] | None,  # real folders that links may lead back to; None at the top
) -> Iterator[tuple[str, SourcePath]]:
    parents = [*(above or ())]
    if isinstance(folder, Path) and folder.is_symlink():
        parents.append(Path(os.path.realpath(folder.parent)))
    try:
        problem = _find_folder_problem(folder, parents, source, is_top=above is None)
        children = [] if problem else scan_folder(folder)
    except OSError as err:
        denied = isinstance(err, PermissionError)
        problem = DENIED_FOLDER if denied else explain_unreadable(err)
    if problem:
        yield prefix, mark_unreadable(folder, problem)
        return
    for path in children:
        if is_junk(path.name):
            continue
        inner_path = f"{prefix}{path.name}"
        if problem := find_name_problem(path.name):
            ending = "/" if path.is_dir() else ""
            yield printable(inner_path) + ending, mark_unreadable(path, problem)
        elif path.is_dir():
            if not nested:
                raise InputError(
                    f"{printable(path)} is a folder among images. Move its images up or remove it."
                )
            yield from _walk(path, nested, f"{inner_path}/", source, parents)
        elif isinstance(path, ArchivePath):
            path.check_unique()
            yield inner_path, path
        elif source and path.is_symlink() and leads_out(path, source):
            yield inner_path, mark_unreadable(path, _OUTSIDE)
        else:
            yield inner_path, path


def _find_folder_problem(
    folder: SourcePath, parents: Sequence[Path], source: Path | None, *, is_top: bool
) -> str | None:
    """Returns why a folder is not walked through, or None."""
    if not isinstance(folder, Path) or not (is_top or folder.is_symlink()):
        return None
    if source and leads_out(folder, source):
        return _OUTSIDE
    real = Path(os.path.realpath(folder))
    return _LOOP if any(parent.is_relative_to(real) for parent in parents) else None


def has_image_suffix(path: SourcePath) -> bool:
    """Returns whether a file name ends like an image."""
    return PurePath(path.name).suffix.casefold() in SUFFIXES


def content_key(path: SourcePath) -> tuple[int, ...]:
    """Returns the file size, and in an archive the checksum: equal for equal files."""
    if isinstance(path, ArchivePath) and path.is_file():
        return path.get_content_key()
    try:
        return (Path(str(path)).stat().st_size,)
    except OSError:  # it vanished; reported when it is read
        return (-1,)
