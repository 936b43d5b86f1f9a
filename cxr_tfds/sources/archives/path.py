"""Paths inside archives, which are read without extracting them, and what archives may contain."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.regular_files import Readable
from cxr_tfds.text import printable

# For tables and arrays. Images have the lower limit of `cxr_tfds.limits`.
MAX_ENTRY_BYTES = 1 << 30
# Deflate shrinks zeros 1,030 times and radiographs hardly at all. Small entries may be empty pages.
MAX_RATIO = 200
MIN_BYTES_FOR_RATIO = 1 << 20
_REMEDY = "Do not trust this file. Download it again, or pack it again without this entry."


class Entry(Readable, Protocol):
    """The position of a file in an archive: all that another thread or process needs to read it.

    `read_bytes` raises BadImage if the content is corrupt.
    """

    def get_checksum(self) -> int:
        """Returns the CRC-32 of the content."""


@dataclasses.dataclass(frozen=True)
class UnreadableEntry:
    """What a source holds in place of a file, such as a pipe, and why it is not read."""

    reason: str
    file_size: int = -1

    def read_bytes(self) -> bytes:
        """Raises BadImage with the reason."""
        raise BadImage(self.reason)

    def get_checksum(self) -> int:
        """Returns 0: nothing is read."""
        return 0


@dataclasses.dataclass(frozen=True)
class ArchivePath:
    """A path inside one or several archives, with the methods of `Path` that readers need.

    An item on disk that must not be read is one, too, with an `UnreadableEntry`.
    """

    path: str  # the archive, or the folder with the archives, and the path inside
    entry: Entry | None = dataclasses.field(default=None, compare=False)  # of a file
    load_children: Callable[[], dict[str, ArchivePath]] | None = None  # of a folder
    conflict: str = ""  # path of a different file with the same name in another archive

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @functools.cached_property
    def children(self) -> dict[str, ArchivePath]:
        """The content of a folder by name, loaded on first use."""
        return self.load_children() if self.load_children else {}

    def is_dir(self) -> bool:
        """Returns whether this is a folder."""
        return self.load_children is not None

    def is_file(self) -> bool:
        """Returns whether this is a file."""
        return self.entry is not None

    def iterdir(self) -> Iterator[ArchivePath]:
        """Returns the content of a folder."""
        return iter(self.children.values())

    def check_unique(self) -> None:
        """Raises InputError if another archive has a different file with the same name."""
        if self.conflict:
            raise InputError(
                f"Conflicting files: {printable(self)} and {printable(self.conflict)} have the "
                "same name but different contents. Remove one."
            )

    def read_bytes(self) -> bytes:
        """Returns the decompressed content, never more than the archive announces.

        Raises:
          BadImage: The entry is corrupt or differs from the archive's directory.
          InputError: The content is ambiguous, or its decompressed copy no longer exists.
        """
        self.check_unique()
        return self._get_entry().read_bytes()

    @property
    def file_size(self) -> int:
        """Number of bytes of a file after decompression."""
        return self._get_entry().file_size

    def get_content_key(self) -> tuple[int, ...]:
        """Returns size and checksum of a file: equal for equal files, in archives of one kind."""
        return self._get_entry().file_size, self._get_entry().get_checksum()

    def _get_entry(self) -> Entry:
        if self.entry is None:
            raise FileNotFoundError(self.path)
        return self.entry

    def __truediv__(self, name: str) -> ArchivePath:
        path = self
        for part in PurePosixPath(name).parts:
            path = path.children.get(part) or ArchivePath(f"{path}/{part}")
        return path

    def __str__(self) -> str:
        return self.path


SourcePath = Path | ArchivePath  # several threads may read from one


def incomplete_archive(archive: Path, kind: str, reason: object) -> InputError:
    """Returns the error for an archive that ends early or is corrupt."""
    return InputError(f"{archive} is not a complete {kind}: {reason}. Copy or download it again.")


def split_name(name: str) -> list[str]:
    """Returns the parts of an entry's name, which some Windows tools write with backslashes."""
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def check_entry(
    archive: Path,
    name: str,
    size: int,
    packed_size: int | None = None,
    *,
    problem: str = "",
    remedy: str = "",
    max_bytes: int | None = None,
) -> str:
    """Returns the path of an entry inside its archive, if it is safe to read.

    Args:
      archive: For the error message.
      name: Name of the entry, as the archive spells it.
      size: Number of bytes after decompression.
      packed_size: Number of bytes before decompression, if the entry is compressed.
      problem: What the reader of the archive has found to be wrong, such as "is a link".
      remedy: What to do about `problem`; "" distrusts the archive.
      max_bytes: Upper limit for `size`; None is MAX_ENTRY_BYTES.

    Raises:
      InputError: There is a problem, the entry points outside the folder, or it is too large.
    """
    parts = split_name(name)
    max_bytes = MAX_ENTRY_BYTES if max_bytes is None else max_bytes
    if not parts or name[0] in "/\\" or ".." in parts or parts[0][-1] == ":":
        problem, remedy = "points outside the folder", ""
    elif problem:
        pass
    elif size > max_bytes:
        problem = f"has {size:,} bytes; at most {max_bytes:,} are allowed"
    elif packed_size is not None and size > max(MIN_BYTES_FOR_RATIO, MAX_RATIO * packed_size):
        problem = f"has {size:,} bytes, over {MAX_RATIO} times its compressed size"
    else:
        return "/".join(parts)
    raise InputError(f"{archive}: entry {name!r} {problem}. {remedy or _REMEDY}")
