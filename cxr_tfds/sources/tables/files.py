"""Finds the files that a table names: by path, name, or name without suffix."""

from __future__ import annotations

import functools
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.pixels import SUFFIXES
from cxr_tfds.sources import masks
from cxr_tfds.sources.archives import ArchivePath, SourcePath
from cxr_tfds.sources.image import SourceImage
from cxr_tfds.sources.opening import open_source
from cxr_tfds.sources.paths import check_links, check_loop, is_junk, list_children, printable

EXPECTED = "Expected a folder or zip with images and a table of their labels."
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".npz")


class SourceFile(NamedTuple):
    """A file of a source."""

    inner_path: str  # below the source, separated by "/"
    path: SourcePath


class SourceFiles:
    """Files of a source, found by the paths and names in a table.

    Attributes:
      files: All files, sorted by path.
    """

    def __init__(self, files: Sequence[SourceFile]) -> None:
        self.files = sorted(files, key=lambda file: file.inner_path)
        paths = [file.inner_path for file in self.files]
        # A case-sensitive match is preferred. Each index is built when the ones before it fail.
        self._indexes = [_TailIndex(paths, key) for key in (str, _strip, _fold, _fold_strip)]

    @functools.cached_property
    def unique_names(self) -> dict[str, int]:
        """The names that one file has, and its position: a fast way to find most images."""
        positions: dict[str, int] = {}
        repeated: set[str] = set()
        for i, file in enumerate(self.files):
            name = file.inner_path.rpartition("/")[2]
            if positions.setdefault(name, i) != i:
                repeated.add(name)
        return {name: i for name, i in positions.items() if name not in repeated}

    def find(self, name: str, folder: str = "") -> list[int]:
        """Returns the positions of the files that a table means: one, unless the name is unclear.

        Args:
          name: Path from `clean_name`, below the source or `folder`, or the end of such a path;
            with or without suffix.
          folder: Folder of the table, below the source.
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
        sizes = {_get_content_key(self.files[i].path, len(on_disk) > 0) for i in found}
        if len(sizes) == 1 and len(on_disk) < 2:
            return on_disk or found[:1]
        if len(found) > 10:  # such as a name that each folder has
            return found
        images = {
            i: SourceImage(self.files[i].path, "", "", self.files[i].inner_path) for i in found
        }
        unnamed = masks.find_unnamed_masks(list(images.values()))
        return [i for i in found if images[i].image_id not in unnamed]


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

    @functools.cached_property
    def _max_depth(self) -> int:
        return max((key.count("/") + 1 for key in self._keys), default=0)

    def find(self, name: str, folder: str) -> list[int]:
        key = self._key(name)
        found = self._find_tail(key, key.count("/") + 1)
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

    def _find_tail(self, tail: str, depth: int) -> list[int]:
        if depth > self._max_depth:
            return []
        if depth not in self._by_depth:
            index: dict[str, list[int]] = {}
            for i, key in enumerate(self._keys):
                parts = key.rsplit("/", depth)
                if len(parts) >= depth:
                    index.setdefault("/".join(parts[-depth:]), []).append(i)
            self._by_depth[depth] = index
        return self._by_depth[depth].get(tail, [])


def _strip(path: str) -> str:
    stem, dot, suffix = path.rpartition(".")
    return stem if f"{dot}{suffix}".casefold() in SUFFIXES else path


def _fold(path: str) -> str:
    # macOS stores é as two characters, tables have one.
    return unicodedata.normalize("NFC", path).casefold()


def _fold_strip(path: str) -> str:
    return _strip(_fold(path))


def _get_content_key(path: SourcePath, only_size: bool) -> tuple[int, ...]:
    """Returns what equal files share: the size, and in archives the checksum."""
    if isinstance(path, ArchivePath) and path.entry:
        size = path.entry.file_size
        return (size,) if only_size else (size, path.entry.get_checksum())
    try:
        return (Path(str(path)).stat().st_size,)
    except OSError:  # a broken link is reported when it is read
        return (-1,)


def clean_name(cell: str, where: str) -> str:
    """Returns a path from a table, separated by "/", without "." parts.

    Args:
      cell: The path or name.
      where: Table and line, for the message.

    Raises:
      InputError: The path is absolute or leads to a parent folder.
    """
    parts = cell.replace("\\", "/").split("/")
    if cell.startswith(("/", "\\")) or ".." in parts or parts[0][1:] == ":" or "\0" in cell:
        raise InputError(
            f"{where}: {printable(cell)} leads out of the source. "
            "Expected a path below the source, or the name of the image."
        )
    return "/".join(part for part in parts if part not in ("", "."))


def walk_source(source: Path) -> Iterator[SourceFile]:
    """Yields the files of a source and of the archives in it, without junk and the archives.

    A file in an archive is skipped if the folder has a file with the same path.

    Raises:
      MissingData: The source does not exist.
      InputError: A folder is unreadable or contains itself, or a file is not a regular file.
    """
    known: set[str] = set()
    for top in open_source(source, EXPECTED):
        for file in _walk(source, top, ""):
            is_archive = "/" not in file.inner_path and file.path.name.lower().endswith(_ARCHIVES)
            if file.inner_path not in known and not is_archive:
                known.add(file.inner_path)
                yield file


def _walk(
    source: Path, folder: SourcePath, prefix: str, above: Sequence[Path] = ()
) -> Iterator[SourceFile]:
    for path, is_folder in _list_entries(folder):
        name = path.name
        if name.encode(errors="ignore").decode() != name:
            raise InputError(f"{str(path)!a}: the file name is not valid UTF-8. Rename the file.")
        if is_folder:
            below: Sequence[Path] = above
            if isinstance(path, Path) and path.is_symlink():
                check_links(source, [path])
                below = check_loop(path, above)
            yield from _walk(source, path, f"{prefix}{name}/", below)
        else:
            if isinstance(path, ArchivePath):
                path.check_unique()
            yield SourceFile(prefix + name, path)


def _list_entries(folder: SourcePath) -> list[tuple[SourcePath, bool]]:
    """Returns the content of a folder without junk, sorted, and whether each is a folder."""
    if isinstance(folder, ArchivePath) or not os.access(folder, os.R_OK | os.X_OK):
        return [(path, path.is_dir()) for path in list_children(folder)]
    found: list[tuple[SourcePath, bool]] = []
    # Entries of `os.scandir` know what they are. Asking 100,000 paths takes a second.
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_junk(entry.name):
                continue
            # Reading a pipe would never end. A broken link is reported when it is read.
            if not (entry.is_dir() or entry.is_file() or entry.is_symlink()):
                raise InputError(f"{printable(entry.path)} is not a regular file. Remove it.")
            found.append((Path(entry.path), entry.is_dir()))
    return sorted(found, key=lambda pair: pair[0].name)
