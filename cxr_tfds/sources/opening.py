"""Finds the folder that holds the images: in the source folder, or in zips inside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from cxr_tfds.errors import MissingData
from cxr_tfds.sources.archive import open_archives
from cxr_tfds.sources.paths import (
    SourcePath,
    expect_single,
    find_folders,
    list_children,
    summarize_folder,
)

_log = logging.getLogger(__name__)


def open_source(source: Path, expected: str) -> list[SourcePath]:
    """Returns where to look for images: the folder, then the content of its zips, if any.

    Zips are opened on first use, see `cxr_tfds.sources.archive.open_archives`.

    Args:
      source: Folder or zip.
      expected: Description of the layout, for the error message.

    Raises:
      MissingData: `source` does not exist, or is a file but not a zip.
    """
    if source.is_file() and source.suffix.casefold() == ".zip":
        return [open_archives(source, [source])]
    if not source.is_dir():
        problem = "The file is not a zip." if source.is_file() else "It does not exist."
        raise MissingData(f"No radiographs in {source}\n{problem}\n{expected}")
    zips = [
        source / path.name
        for path in list_children(source)
        if path.name.casefold().endswith(".zip") and path.is_file()
    ]
    return [source, open_archives(source, zips)] if zips else [source]


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
      InputError: Several folders pass, or a zip is refused.
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


def find_in(
    tops: Sequence[SourcePath], accept: Callable[[SourcePath], bool], source: Path
) -> SourcePath | None:
    """Returns the only accepted folder of the first place that has any, or None.

    Raises:
      InputError: Several folders are accepted on the same level.
    """
    for top in tops:
        if found := find_folders(top, accept):
            return expect_single(found, source)
    return None
