"""Where a source may stand: in a folder, or in the zips that lie in it, which are opened only when they are needed."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from cxr_tfds.errors import MissingData
from cxr_tfds.sources.archive import ZipFolder, open_archives
from cxr_tfds.sources.places import Place, check_links, children


def open_source(source: Path) -> list[Place]:
    """Where a source may stand: the folder itself, then what is in the zips that lie in it; or in the zip itself.

    Looking into the second opens the zips.

    Raises:
      MissingData: `source` does not exist, or is a file and no zip.
      InputError: it is a zip that is damaged or may not be opened, see `cxr_tfds.sources.archive`.
    """
    source = Path(source)
    if source.is_file():
        if source.suffix.casefold() != ".zip":
            raise MissingData(f"No radiographs in {source}\nIt is a file, and no zip.")
        return [open_archives(source, [source])]
    if not source.is_dir():
        raise MissingData(f"No radiographs in {source}\nIt does not exist.")
    zips = [
        Path(source, place.name)
        for place in children(source)
        if place.name.casefold().endswith(".zip")
    ]
    zips = [path for path in zips if path.is_file()]
    return [source, Zips(source, zips)] if zips else [source]


class Zips:
    """What is in the zips of a folder, as one folder.

    Looking into it opens them, and raises InputError where a zip is damaged, may not be opened, or is a link out of
    the folder: beside a source that stands there extracted it is no matter what else was downloaded.
    """

    def __init__(self, source: Path, archives: Sequence[Path]) -> None:
        self._source = source
        self._archives = archives

    @functools.cached_property
    def _opened(self) -> ZipFolder:
        check_links(self._source, self._archives)
        return open_archives(self._source, self._archives)

    @property
    def name(self) -> str:
        return self._source.name

    def is_dir(self) -> bool:
        return True

    def is_file(self) -> bool:
        return False

    def iterdir(self) -> Iterator[Place]:
        return self._opened.iterdir()

    def read_bytes(self) -> bytes:
        raise IsADirectoryError(str(self))

    def __truediv__(self, name: str) -> Place:
        return self._opened / name

    def __str__(self) -> str:
        return str(self._source)
