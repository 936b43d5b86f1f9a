"""Walks through the files of a folder, on disk or in an archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.pixels import SUFFIXES
from cxr_tfds.sources.archives import ArchivePath, SourcePath
from cxr_tfds.sources.paths import check_links, check_loop, list_children, printable


def walk_files(
    folder: SourcePath,
    nested: bool,
    prefix: str = "",
    above: Sequence[Path] = (),
    source: Path | None = None,
) -> Iterator[tuple[str, SourcePath]]:
    """Yields each file of a folder with its path below it, in the order of the names.

    Raises InputError for a name that is not UTF-8, a pipe, a link to a folder above, a link out of
    `source` if it is given, and a folder unless `nested`.
    """
    for path in list_children(folder):
        if path.name.encode(errors="ignore").decode() != path.name:
            raise InputError(f"{str(path)!a}: the file name is not valid UTF-8. Rename the file.")
        if path.is_file():
            if isinstance(path, ArchivePath):
                path.check_unique()
            yield prefix + path.name, path
        elif not path.is_dir():
            if isinstance(path, Path) and path.exists():  # reading a pipe would never end
                raise InputError(f"{printable(path)} is not a regular file. Remove it.")
            yield prefix + path.name, path  # a broken link is reported with the unreadable images
        elif not nested:
            raise InputError(
                f"{printable(path)} is a folder among images. Move its images up or remove it."
            )
        else:
            below: Sequence[Path] = ()
            if isinstance(path, Path):
                if source and path.is_symlink():
                    check_links(source, [path])
                below = check_loop(path, above)
            yield from walk_files(path, nested, f"{prefix}{path.name}/", below, source)


def has_image_suffix(path: SourcePath) -> bool:
    """Returns whether a file name ends like an image."""
    return PurePath(path.name).suffix.casefold() in SUFFIXES


def content_key(path: SourcePath) -> tuple[int, ...]:
    """Returns the file size, and in an archive the checksum: equal for equal files."""
    if isinstance(path, ArchivePath) and path.is_file():
        return path.get_content_key()
    try:
        return (Path(str(path)).stat().st_size,)
    except OSError:  # a broken link is reported when it is read
        return (-1,)
