"""Finds the folder that holds the images: in the source folder, or in archives inside it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import lzma
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources.archives import ArchivePath, SourcePath
from cxr_tfds.sources.archives.npz import has_images, list_npz
from cxr_tfds.sources.archives.tar import find_decompressor, is_tar_header, list_tar
from cxr_tfds.sources.archives.zip import list_zip
from cxr_tfds.sources.paths import (
    NEW_ROW,
    SPLIT_NAMES,
    check_links,
    find_folders,
    is_junk,
    join_names,
    list_children,
    summarize_folder,
)
from cxr_tfds.text import printable

_log = logging.getLogger(__name__)

_READERS = {  # suffix to reader
    **dict.fromkeys((".zip",), list_zip),
    **dict.fromkeys((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"), list_tar),
    **dict.fromkeys((".npz",), list_npz),
}
ARCHIVE_SUFFIXES = tuple(_READERS)
_HEADER_BYTES = 512  # of a tar's first entry
_NOT_AN_ARCHIVE = (
    f"The file is not an archive that can be read ({', '.join(_READERS)}). "
    "Extract other archives, such as 7z and rar, and give the folder."
)


def open_source(source: Path, expected: str) -> list[SourcePath]:
    """Returns where to look for images: the folder, then the content of its archives, if any.

    Raises:
      MissingData: `source` does not exist, or is a file but not an archive.
    """
    if source.is_file() and _find_reader(source):
        return [open_archives(source, [source])]
    if not source.is_dir():
        problem = _NOT_AN_ARCHIVE if source.is_file() else "It does not exist."
        raise MissingData(f"No radiographs in {source}\n{problem}\n{expected}")
    archives = [
        path
        for path in list_children(source)
        if isinstance(path, Path) and (suffix := _get_suffix(path)) and path.is_file()
        # Other npz files hold features or masks.
        if suffix != ".npz" or has_images(path)
    ]
    return [source, open_archives(source, archives)] if archives else [source]


def open_archives(source: Path, archives: Sequence[Path]) -> ArchivePath:
    """Returns one folder with the content of all archives, which are opened on first use.

    An archive gets a folder with its own name if it holds only files, such as `NORMAL.zip`, or if
    it is named after a split and holds no split folder. First use raises InputError if an archive
    is unsafe, incomplete or reached through a link out of `source`.
    """

    def load() -> dict[str, ArchivePath]:
        check_links(source, archives)
        root = ArchivePath(str(source), load_children=dict)
        for archive in archives:
            entries = _list_entries(archive)
            stem = archive.name[: len(archive.name) - len(_get_suffix(archive))]
            top_names = {parts[0].casefold() for parts, _ in entries}
            needs_folder = all(len(parts) == 1 and leaf.is_file() for parts, leaf in entries) or (
                stem.casefold() in SPLIT_NAMES and not top_names & set(SPLIT_NAMES)
            )
            for parts, leaf in entries:
                _insert(root, [stem, *parts] if needs_folder else parts, leaf)
        return root.children

    return ArchivePath(str(source), load_children=load)


def _list_entries(archive: Path) -> list[tuple[Sequence[str], ArchivePath]]:
    """Returns the parts of each path in an archive and the path itself, without junk."""
    reader = _find_reader(archive) or list_zip
    entries = [(leaf.path[len(f"{archive}/") :].split("/"), leaf) for leaf in reader(archive)]
    return [(parts, leaf) for parts, leaf in entries if not any(map(is_junk, parts))]


def _insert(folder: ArchivePath, parts: Sequence[str], leaf: ArchivePath) -> None:
    is_last = len(parts) == 1
    new = leaf if is_last else ArchivePath(f"{folder}/{parts[0]}", load_children=dict)
    existing = folder.children.setdefault(parts[0], new)
    if existing.is_dir() != new.is_dir():
        raise InputError(f"{printable(existing)} is both a file and a folder. Pack it again.")
    if not is_last:
        _insert(existing, parts[1:], leaf)
    elif existing is not leaf and leaf.is_file() and not _are_equal(existing, leaf):
        # Reported once it is read: the README files of two archives may well differ.
        folder.children[parts[0]] = dataclasses.replace(existing, conflict=str(leaf))


def _are_equal(one: ArchivePath, other: ArchivePath) -> bool:
    if one.entry and other.entry and one.entry.file_size != other.entry.file_size:
        return False  # a checksum may take reading the file
    return one.get_content_key() == other.get_content_key()


def _get_suffix(path: Path) -> str:
    """Returns the suffix of an archive, such as ".tar.gz", or ""."""
    name = path.name.casefold()
    return max((suffix for suffix in _READERS if name.endswith(suffix)), key=len, default="")


def _find_reader(archive: Path) -> Callable[[Path], list[ArchivePath]] | None:
    """Returns what lists an archive, by its content or else by its name, or None."""
    suffix = _get_suffix(archive)
    head = _read_head(lambda: archive.open("rb"))
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return list_npz if suffix == ".npz" else list_zip
    decompressor = find_decompressor(head)
    if decompressor and not suffix:  # any compressed file, such as a table
        head = _read_head(lambda: decompressor(archive))
    if is_tar_header(head) or (decompressor and suffix):
        return list_tar
    return _READERS.get(suffix)


def _read_head(open_file: Callable[[], IO[bytes]]) -> bytes:
    """Returns the first bytes of a file, or nothing if it is corrupt: its reader reports that."""
    with contextlib.suppress(OSError, EOFError, zlib.error, lzma.LZMAError), open_file() as file:
        return file.read(_HEADER_BYTES)
    return b""


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

    If an extracted copy exists, archives next to it are ignored.

    Args:
      source: Folder or archive.
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
                _log.info("Archives in %s are ignored: using the extracted %s.", source, root)
            return root
    raise MissingData(
        f"No {content} in {source}\nFound there: {summarize_folder(tops[-1])}\n{expected}"
    )
