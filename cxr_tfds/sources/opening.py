"""Finds the folder that holds the images: in the source folder, or in zips inside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources.archive import SourcePath, open_archives
from cxr_tfds.sources.paths import (
    NEW_ROW,
    find_folders,
    join_names,
    list_children,
    summarize_folder,
)

_log = logging.getLogger(__name__)


def open_source(source: Path, expected: str) -> list[SourcePath]:
    """Returns where to look for images: the folder, then the content of its zips, if any.

    Raises:
      MissingData: `source` does not exist, or is a file but not a zip.
    """
    if source.is_file() and source.suffix.casefold() == ".zip":
        return [open_archives(source, [source])]
    if not source.is_dir():
        problem = "The file is not a zip." if source.is_file() else "It does not exist."
        raise MissingData(f"No radiographs in {source}\n{problem}\n{expected}")
    files = (source / path.name for path in list_children(source))
    zips = [path for path in files if path.suffix.casefold() == ".zip" and path.is_file()]
    return [source, open_archives(source, zips)] if zips else [source]


def find_in(
    tops: Sequence[SourcePath], accept: Callable[[SourcePath], bool], source: Path
) -> SourcePath | None:
    """Returns the accepted folder of the first place that has any, or None.

    Raises InputError if several folders on the same level are accepted.
    """
    for top in tops:
        found = find_folders(top, accept)
        if len(found) > 1:
            raise InputError(
                f"{source} contains {len(found)} sources:\n  {join_names(found, NEW_ROW)}\n"
                "Give the path of one of them."
            )
        if found:
            return found[0]
    return None


def find_root(
    source: Path,
    expected: str,
    *accepts: Callable[[SourcePath], bool],
    content: str = "radiographs",
) -> SourcePath:
    """Returns the folder of a source that holds the images, at most three levels down.

    If an extracted copy exists, zip files next to it are ignored.

    Args:
      source: Folder or zip.
      expected: Description of the layout, for the error message.
      accepts: Tests of a folder. A later test is used only if no folder passes the earlier ones.
      content: What is searched for, for the error message.

    Raises:
      MissingData: No folder passes any test.
    """
    tops = open_source(source, expected)
    for accept in accepts:
        if root := find_in(tops, accept, source):
            if len(tops) > 1 and isinstance(root, Path):
                _log.info("Zip files in %s are ignored: using the extracted %s.", source, root)
            return root
    raise MissingData(
        f"No {content} in {source}\nFound there: {summarize_folder(tops[-1])}\n{expected}"
    )
