"""Finds the files that a table names: by path, name, or name without suffix."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.pixels import SUFFIXES
from cxr_tfds.sources import masks
from cxr_tfds.sources.archives import SourcePath
from cxr_tfds.sources.image import SourceImage
from cxr_tfds.sources.opening import ARCHIVE_SUFFIXES, open_source
from cxr_tfds.sources.paths import fold_name
from cxr_tfds.sources.walking import content_key, walk_files
from cxr_tfds.text import printable

EXPECTED = "Expected a folder or zip with images and a table of their labels."


class SourceFile(NamedTuple):
    """A file of a source."""

    inner_path: str  # below the source, separated by "/"
    path: SourcePath


class SourceFiles:
    """Files of a source, sorted by path, and found by the paths and names in a table."""

    def __init__(self, files: Sequence[SourceFile]) -> None:
        self.files = sorted(files, key=lambda file: file.inner_path)
        paths = [file.inner_path for file in self.files]
        # A case-sensitive match is preferred. Each index is built when the ones before it fail.
        keys = (str, _strip, fold_name, lambda path: _strip(fold_name(path)))
        self._indexes = [_TailIndex(paths, key) for key in keys]

    @functools.cached_property
    def unique_names(self) -> dict[str, int]:
        """The names that one file has, and its position: a fast way to find most images."""
        names = [file.inner_path.rpartition("/")[2] for file in self.files]
        counts = Counter(names)
        return {name: i for i, name in enumerate(names) if counts[name] == 1}

    def find(self, name: str, folder: str = "") -> list[int]:
        """Returns the positions of the files that a table means: one, unless the name is unclear.

        `name` is a path from `clean_name`, below the source or below the `folder` of the table, or
        the end of such a path; with or without suffix.
        """
        for index in self._indexes:
            if found := index.find(name, folder):
                return found if len(found) == 1 else self._choose(found)
        return []

    def find_loosely(self, name: str, folder: str = "") -> list[int]:
        """Returns the same as `find`, but ignores first folders that the source does not have."""
        for index in self._indexes:
            if found := index.find_end(name, folder):
                return found
        return []

    def _choose(self, found: list[int]) -> list[int]:
        """Returns the candidates without identical copies in archives and without masks."""
        on_disk = [i for i in found if isinstance(self.files[i].path, Path)]
        keys = {content_key(self.files[i].path) for i in found}
        if on_disk:  # only archives state a checksum
            keys = {key[:1] for key in keys}
        if len(keys) == 1 and len(on_disk) < 2:
            return on_disk or found[:1]
        if len(found) > 10:  # such as a name that each folder has
            return found
        candidates = [self.files[i] for i in found]
        unnamed = masks.find_unnamed_masks(
            [SourceImage(path, "", "", inner_path) for inner_path, path in candidates]
        )
        return [i for i in found if self.files[i].inner_path not in unnamed]


class _TailIndex:
    """Finds paths by their last parts."""

    def __init__(self, paths: Sequence[str], key: Callable[[str], str]) -> None:
        self._paths = paths
        self._key = key
        self._by_depth: dict[int, dict[str, list[int]]] = {}

    @functools.cached_property
    def _keys(self) -> list[str]:
        return list(map(self._key, self._paths))

    @functools.cached_property
    def _folders(self) -> set[str]:
        parents = {key.rpartition("/")[0] for key in self._keys}
        return {part for parent in parents for part in parent.split("/")}

    def find(self, name: str, folder: str) -> list[int]:
        key = self._key(name)
        depth = key.count("/")
        if depth not in self._by_depth:
            self._by_depth[depth] = self._index_tails(depth)
        found = self._by_depth[depth].get(key, [])
        if len(found) > 1:
            exact = {f"{self._key(folder)}/{key}", key}
            return [i for i in found if self._keys[i] in exact] or found
        return found

    def find_end(self, name: str, folder: str) -> list[int]:
        first, _, end = self._key(name).partition("/")
        # `test/1.png` does not mean train/1.png: only unknown folders are ignored.
        while end and first not in self._folders:
            if found := self.find(end, folder):
                return found
            first, _, end = end.partition("/")
        return []

    def _index_tails(self, depth: int) -> dict[str, list[int]]:
        """Returns the last parts of paths, with `depth` folders, to the positions of the paths."""
        index: dict[str, list[int]] = defaultdict(list)
        for i, key in enumerate(self._keys):
            folders = key.count("/")
            if folders >= depth:
                index[key.split("/", folders - depth)[-1]].append(i)
        return index


def _strip(path: str) -> str:
    stem, dot, suffix = path.rpartition(".")
    return stem if f"{dot}{suffix}".casefold() in SUFFIXES else path


def clean_name(cell: str, place: str) -> str:
    """Returns a path from a table, separated by "/", without "." parts.

    Raises InputError, which names the `place`, if the path is absolute or leads to a parent folder.
    """
    parts = cell.replace("\\", "/").split("/")
    if cell.startswith(("/", "\\")) or ".." in parts or parts[0][1:] == ":" or "\0" in cell:
        raise InputError(
            f"{place}: {printable(cell)} leads out of the source. "
            "Expected a path below the source, or the name of the image."
        )
    return "/".join(part for part in parts if part not in ("", "."))


def walk_source(source: Path) -> Iterator[SourceFile]:
    """Yields the files of a source and of the archives in it, without junk and the archives.

    A file in an archive is skipped if the folder has a file with the same path. Raises MissingData
    if the source does not exist, and the errors of `walk_files`.
    """
    known: set[str] = set()
    for top in open_source(source, EXPECTED):
        for inner_path, path in walk_files(top, nested=True, source=source):
            is_archive = "/" not in inner_path and inner_path.casefold().endswith(ARCHIVE_SUFFIXES)
            if inner_path not in known and not is_archive:
                known.add(inner_path)
                yield SourceFile(inner_path, path)
