"""Lists the entries of tars. A compressed tar is decompressed once: it has no random access."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from cxr_tfds.errors import InputError
from cxr_tfds.sources.archives.copies import decompress_once, read_part
from cxr_tfds.sources.archives.names import decode_names
from cxr_tfds.sources.archives.path import (
    MAX_RATIO,
    MIN_BYTES_FOR_RATIO,
    ArchivePath,
    check_entry,
    incomplete_archive,
    split_name,
)

_MAX_HEADER_BYTES = 1 << 20  # of a long name or a list of attributes
_OPENERS: dict[bytes, Callable[..., Any]] = {  # first bytes of a file to its decompressor
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


@dataclasses.dataclass(frozen=True)
class TarEntry:
    """The position of a file in a tar or its decompressed copy."""

    archive: str
    file: str
    offset: int
    file_size: int

    def read_bytes(self) -> bytes:
        """Returns the content. Raises BadImage if the tar ends early."""
        return read_part(self.archive, self.file, self.offset, self.file_size)

    def get_checksum(self) -> int:
        """Returns the CRC-32, for which the content is read: a tar does not state it."""
        return zlib.crc32(self.read_bytes())


class _HeaderFile(io.FileIO):
    """A tar whose headers are read. A corrupt header cannot make it fill the memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return super().read(size)


def find_decompressor(head: bytes) -> Callable[[Path], IO[bytes]] | None:
    """Returns what opens a compressed file that begins with `head`, or None."""
    return next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), None)


def is_tar_header(head: bytes) -> bool:
    """Returns whether a file that begins with `head` is a tar of POSIX or GNU format."""
    return head[257:262] == b"ustar"


def list_tar(archive: Path) -> list[ArchivePath]:
    """Returns the files and folders in a tar, which may be compressed.

    Raises:
      InputError: The tar is incomplete, has an entry that is refused, or cannot be decompressed.
    """
    file = str(archive)
    try:
        with archive.open("rb") as stream:
            decompressor = find_decompressor(stream.read(6))
        if decompressor:
            max_bytes = max(MIN_BYTES_FOR_RATIO, MAX_RATIO * archive.stat().st_size)
            file = decompress_once(archive, "", lambda: decompressor(archive), max_bytes)
        infos = list(_read_headers(file))
    except PermissionError as err:
        raise InputError(f"Cannot read {archive}: {err.strerror}.") from err
    except InputError:
        raise
    except Exception as err:  # tarfile and the decompressors raise many kinds
        raise incomplete_archive(archive, "tar", err) from err
    _decode_names(archive, infos)
    entries = []
    for info in infos:
        if info.isdir() and not split_name(info.name):
            continue  # "./", the folder itself
        problem = _find_problem(info)
        path = f"{archive}/{check_entry(archive, info.name, info.size, problem=problem)}"
        if info.isdir():
            entries.append(ArchivePath(path, load_children=dict))
        else:
            entry = TarEntry(str(archive), file, info.offset_data, info.size)
            entries.append(ArchivePath(path, entry))
    return entries


def _read_headers(file: str) -> Iterator[tarfile.TarInfo]:
    with (
        _HeaderFile(file) as stream,
        tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape") as tar,
    ):
        end = -1
        while info := tar.next():
            if info.size < 0 or info.offset <= end:  # would be read again and again
                raise tarfile.ReadError("a header has an impossible size")
            end = info.offset
            tar.members = []  # type: ignore[attr-defined]  # it would keep every header
            yield info
        # A corrupt header ends the list without an error, and so does a file cut between entries.
        stream.seek(tar.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("the end marker is missing")


def _find_problem(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return "is a link"
    if info.isdev():
        return "is a device or a pipe"
    if info.issparse() or not (info.isreg() or info.isdir()):
        return "is of an unsupported type, such as a sparse file"
    return ""


def _decode_names(archive: Path, infos: list[tarfile.TarInfo]) -> None:
    """Replaces the names that are not UTF-8, if an encoding fits all of them."""
    raw = {}
    for info in infos:
        name = info.name.encode("utf-8", "surrogateescape")
        if name.decode("utf-8", "replace") != info.name:
            raw[info] = name
    for info, text in zip(raw, decode_names(archive, list(raw.values())) or [], strict=False):
        info.name = text
