"""Lists the entries of zips. Each knows its position, so any thread or process can read it.

A `zipfile.ZipFile` would load the zip's complete directory into each of them.
"""

from __future__ import annotations

import dataclasses
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.sources.archives.names import decode_names
from cxr_tfds.sources.archives.path import (
    ArchivePath,
    check_entry,
    incomplete_archive,
    split_name,
)

_ENCRYPTED = 0x1  # general purpose flags, APPNOTE.TXT 4.4.4
_UTF8 = 0x800
_UNICODE_PATH = 0x7075  # extra field with the name in UTF-8, 4.6.9
_UNIX = 3  # "version made by", 4.4.2: the upper half of the external attributes is st_mode
_LOCAL_HEADER_BYTES = 30  # 4.3.7


@dataclasses.dataclass(frozen=True)
class ZipEntry:
    """The position of a file in a zip."""

    archive: str
    header_offset: int
    packed_size: int
    file_size: int
    checksum: int
    is_deflated: bool

    def get_checksum(self) -> int:
        """Returns the CRC-32 that the zip's directory states."""
        return self.checksum

    def read_bytes(self) -> bytes:
        """Returns the decompressed content. Raises BadImage if it is corrupt."""
        with Path(self.archive).open("rb") as file:
            file.seek(find_data(file, self.header_offset))
            data = file.read(self.packed_size)
        if self.is_deflated:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, self.file_size + 1)
            except zlib.error as err:
                raise BadImage(f"corrupt in the zip: {err}") from err
        if len(data) != self.file_size or zlib.crc32(data) != self.checksum:
            raise BadImage("corrupt in the zip: wrong length or checksum")
        return data


def find_data(file: IO[bytes], header_offset: int) -> int:
    """Returns the position of an entry's content in a zip.

    Raises:
      BadImage: The entry is not at its listed position.
    """
    file.seek(max(header_offset, 0))
    header = file.read(_LOCAL_HEADER_BYTES)
    if header_offset < 0 or len(header) < _LOCAL_HEADER_BYTES or header[:4] != b"PK\3\4":
        raise BadImage("corrupt in the zip: not at its listed position")
    return header_offset + _LOCAL_HEADER_BYTES + sum(struct.unpack("<HH", header[26:]))


def list_zip(archive: Path) -> list[ArchivePath]:
    """Returns the files and folders in a zip.

    Raises:
      InputError: The zip is incomplete, or has an entry that is refused.
    """
    infos = read_directory(archive)
    entries = []
    for info, name in zip(infos, _decode_names(archive, infos), strict=True):
        is_folder = name.endswith(("/", "\\"))
        if is_folder and not split_name(name):
            continue  # "./", the folder itself
        path = f"{archive}/{check_zip_entry(archive, info, name)}"
        if is_folder:
            entries.append(ArchivePath(path, load_children=dict))
            continue
        deflated = info.compress_type == zipfile.ZIP_DEFLATED
        sizes = (info.header_offset, info.compress_size, info.file_size)
        entries.append(ArchivePath(path, ZipEntry(str(archive), *sizes, info.CRC, deflated)))
    return entries


def read_directory(archive: Path, kind: str = "zip") -> list[zipfile.ZipInfo]:
    """Returns the directory of a zip.

    Raises:
      InputError: The zip cannot be read or is incomplete, or its entries overlap.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            infos = file.infolist()
    except OSError as err:
        raise InputError(f"Cannot read {archive}: {err.strerror or err}.") from err
    except Exception as err:  # zipfile raises many kinds
        raise incomplete_archive(archive, kind, err) from err
    if sum(info.compress_size for info in infos) > archive.stat().st_size:
        raise InputError(f"{archive} has overlapping entries or is incomplete. Download it again.")
    return infos


def check_zip_entry(
    archive: Path, info: zipfile.ZipInfo, name: str, max_bytes: int | None = None
) -> str:
    """Returns the path of an entry inside the zip.

    Raises:
      InputError: The entry points outside the folder, is a link, is encrypted, uses an unsupported
        compression or decompresses to too many bytes.
    """
    problem = remedy = ""
    if info.create_system == _UNIX and stat.S_ISLNK(info.external_attr >> 16):
        problem = "is a link"
    elif info.flag_bits & _ENCRYPTED:
        problem, remedy = "is encrypted", "Extract it with its password and give the folder."
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        method = zipfile.compressor_names.get(info.compress_type, info.compress_type)  # type: ignore[attr-defined]
        problem, remedy = f"uses {method} compression", "Extract it and give the folder."
    sizes = (info.file_size, info.compress_size)
    return check_entry(archive, name, *sizes, problem=problem, remedy=remedy, max_bytes=max_bytes)


def _decode_names(archive: Path, infos: Sequence[zipfile.ZipInfo]) -> list[str]:
    """Returns the names of all entries. Names without a stated encoding are decoded together."""
    names: list[str | bytes] = []
    for info in infos:
        is_utf8 = info.flag_bits & _UTF8
        raw = info.orig_filename.encode("utf-8" if is_utf8 else "cp437")
        stated = info.filename if is_utf8 or raw.isascii() else raw
        names.append(_read_unicode_path(info, raw) or stated)
    unknown = [name.partition(b"\0")[0] for name in names if isinstance(name, bytes)]
    decoded = iter(decode_names(archive, unknown) or [name.decode("cp437") for name in unknown])
    return [name if isinstance(name, str) else next(decoded) for name in names]


def _read_unicode_path(info: zipfile.ZipInfo, raw_name: bytes) -> str | None:
    """Returns the name in the Unicode Path extra field, if it belongs to this name."""
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        data, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and data[:5] == struct.pack("<BI", 1, zlib.crc32(raw_name)):
            try:
                return data[5:].decode()
            except UnicodeDecodeError:
                return None
    return None
