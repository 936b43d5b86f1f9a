"""Zips, read where they are: nothing is unpacked to disk.

An entry is checked by what the zip's directory says of it before a byte is unpacked, and unpacked to no
more than that. An entry knows its place in the file, so any number of threads and processes can read at
once, each with a file handle of its own (a `zipfile.ZipFile` would need one per thread, and its directory
in memory each time).
"""

from __future__ import annotations

import dataclasses
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.sources.names import SPLIT_NAMES
from cxr_tfds.sources.places import is_junk, shown

# What an entry may unpack to. The largest image that is decoded has 100 million pixels, 600 MB as 16-bit colour.
MAX_ENTRY_BYTES = 1 << 30
# Deflate packs zeros 1,030 times smaller and radiographs hardly at all. Small entries may be empty pages.
MAX_RATIO = 200
_RATIO_COUNTS_FROM = 1 << 20

_ENCRYPTED = 0x1  # general purpose flag, section 4.4.4 of the format's APPNOTE.TXT
_LOCAL_HEADER_BYTES = 30  # section 4.3.7
_HOSTS_WITH_MODES = 3  # "version made by" UNIX: the attributes' upper half is st_mode


@dataclasses.dataclass(frozen=True, slots=True)
class ZipEntry:
    """One file in a zip."""

    archive: str  # path of the zip
    inner: str  # path in it
    offset: int  # of its header, bytes
    packed: int  # bytes
    size: int  # bytes, unpacked
    crc: int
    deflated: bool
    rival: str = ""  # another file of this name, in another zip

    @property
    def name(self) -> str:
        return self.inner.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    def is_dir(self) -> bool:
        return False

    def is_file(self) -> bool:
        return True

    def iterdir(self) -> Iterator[ZipPlace]:
        raise NotADirectoryError(str(self))

    def __truediv__(self, name: str) -> ZipPlace:
        return ZipFolder(f"{self}/{name}")

    def __str__(self) -> str:
        return f"{self.archive}/{self.inner}"

    def check_alone(self) -> None:
        """Raises:
        InputError: two zips hold different files of this name.
        """
        if self.rival:
            raise InputError(
                f"{shown(self)} and {shown(self.rival)} differ and have one name. Keep one of the two."
            )

    def read_bytes(self) -> bytes:
        """The entry, unpacked.

        Raises:
          BadImage: it is damaged, or not what the zip's directory says.
          InputError: see `check_alone`.
          OSError: the zip cannot be read.
        """
        self.check_alone()
        with Path(self.archive).open("rb") as file:
            file.seek(self.offset)
            header = file.read(_LOCAL_HEADER_BYTES)
            if len(header) < _LOCAL_HEADER_BYTES or header[:4] != b"PK\3\4":
                raise BadImage("is not where the zip's directory says")
            file.seek(sum(struct.unpack("<HH", header[26:])), 1)  # past its name and extra field
            data = file.read(self.packed)
        if self.deflated:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, self.size + 1)
            except zlib.error as err:
                raise BadImage(f"is damaged in the zip: {err}") from err
        if len(data) != self.size or zlib.crc32(data) != self.crc:
            raise BadImage("is damaged in the zip: length or checksum differ")
        return data


@dataclasses.dataclass(frozen=True, slots=True)
class ZipFolder:
    """A folder of one or several zips; one that was not found has no members and exists in neither sense."""

    path: str
    members: dict[str, ZipPlace] | None = None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def known(self) -> dict[str, ZipPlace]:
        if self.members is None:
            raise FileNotFoundError(str(self))
        return self.members

    def is_dir(self) -> bool:
        return self.members is not None

    def is_file(self) -> bool:
        return False

    def iterdir(self) -> Iterator[ZipPlace]:
        return iter(self.known.values())

    def read_bytes(self) -> bytes:
        raise (
            IsADirectoryError(str(self))
            if self.members is not None
            else FileNotFoundError(str(self))
        )

    def __truediv__(self, name: str) -> ZipPlace:
        place: ZipPlace = self
        for part in PurePosixPath(name).parts:
            members = place.members if isinstance(place, ZipFolder) else None
            place = (members or {}).get(part) or ZipFolder(f"{place}/{part}")
        return place

    def __str__(self) -> str:
        return self.path


ZipPlace = ZipEntry | ZipFolder
_Placed = tuple[
    tuple[str, ...], ZipEntry | None
]  # the parts of a path and the file there; None is a folder


def open_archives(source: Path, archives: Sequence[Path]) -> ZipFolder:
    """One folder that holds what all the zips hold.

    A zip named for a split that holds no folder of one (`train.zip` with `NORMAL/…`), and a zip of bare
    files (`NORMAL.zip`), stand in a folder of the zip's name.

    Raises:
      InputError: a zip is damaged or encrypted, an entry leads out of the folder, is a link, or unpacks to
        too much, or a file stands where another zip has a folder.
    """
    top = ZipFolder(str(source), {})
    for archive in archives:
        entries = _entries(archive)
        inside = (archive.stem,) if _needs_own_folder(archive.stem, entries) else ()
        for parts, entry in entries:
            _put(top, inside + parts, entry)
    return top


def _needs_own_folder(stem: str, entries: Sequence[_Placed]) -> bool:
    names_split = stem.casefold() in SPLIT_NAMES and not any(
        p[0].casefold() in SPLIT_NAMES for p, _ in entries
    )
    return names_split or all(len(parts) == 1 and entry for parts, entry in entries)


def _put(top: ZipFolder, parts: tuple[str, ...], entry: ZipEntry | None) -> None:
    folder = top
    for part in parts if entry is None else parts[:-1]:
        below = folder.known.setdefault(part, ZipFolder(f"{folder}/{part}", {}))
        if not isinstance(below, ZipFolder):
            raise InputError(f"{shown(below)} is a file and a folder. Pack the zip again.")
        folder = below
    if entry is None:
        return
    there = folder.known.setdefault(parts[-1], entry)
    if isinstance(there, ZipFolder):
        raise InputError(f"{shown(there)} is a file and a folder. Pack the zip again.")
    if (there.size, there.crc) != (
        entry.size,
        entry.crc,
    ):  # no matter until it is read, such as a README
        folder.known[parts[-1]] = dataclasses.replace(there, rival=str(entry))


def _entries(archive: Path) -> list[_Placed]:
    """The files and folders of a zip that are no junk."""
    try:
        with zipfile.ZipFile(archive) as file:
            infos = file.infolist()
        whole = archive.stat().st_size
    except OSError as err:
        raise InputError(f"{archive} cannot be read: {err.strerror or err}.") from err
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as err:
        raise InputError(f"{archive} is no whole zip: {err}. Copy or download it again.") from err
    if sum(info.compress_size for info in infos) > whole:
        raise InputError(
            f"{archive} holds entries that overlap, or is not whole. Copy or download it again."
        )
    found: list[_Placed] = []
    for info in infos:
        parts = _parts(archive, info)
        if not any(is_junk(ZipFolder(part)) for part in parts):
            found.append((parts, None if info.is_dir() else _entry(archive, info, parts)))
    return found


def _parts(archive: Path, info: zipfile.ZipInfo) -> tuple[str, ...]:
    path = PurePosixPath(info.filename.replace("\\", "/"))  # some Windows tools write backslashes
    if path.is_absolute() or ".." in path.parts or not path.parts or path.parts[0].endswith(":"):
        raise _refused(archive, info, "leads out of the folder")
    return path.parts


def _entry(archive: Path, info: zipfile.ZipInfo, parts: tuple[str, ...]) -> ZipEntry:
    if info.create_system == _HOSTS_WITH_MODES and stat.S_ISLNK(info.external_attr >> 16):
        raise _refused(archive, info, "is a link")
    if info.flag_bits & _ENCRYPTED:
        raise _refused(
            archive, info, "is encrypted", "Unpack it with its password and give the folder."
        )
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        method = zipfile.compressor_names.get(info.compress_type, info.compress_type)  # type: ignore[attr-defined]
        raise _refused(archive, info, f"is packed by {method}", "Unpack it and give the folder.")
    if info.file_size > MAX_ENTRY_BYTES:
        raise _refused(
            archive,
            info,
            f"unpacks to {info.file_size:,} bytes; at most {MAX_ENTRY_BYTES:,} are allowed",
        )
    if info.file_size > max(_RATIO_COUNTS_FROM, MAX_RATIO * info.compress_size):
        raise _refused(
            archive,
            info,
            f"unpacks to {info.file_size:,} bytes, more than {MAX_RATIO} times what is packed",
        )
    return ZipEntry(
        archive=str(archive),
        inner="/".join(parts),
        offset=info.header_offset,
        packed=info.compress_size,
        size=info.file_size,
        crc=info.CRC,
        deflated=info.compress_type == zipfile.ZIP_DEFLATED,
    )


def _refused(archive: Path, info: zipfile.ZipInfo, what: str, remedy: str = "") -> InputError:
    remedy = (
        remedy
        or "Such a zip is not to be trusted; get it from its source, or pack it again without this entry."
    )
    return InputError(f"{archive}: the entry {info.filename!r} {what}. {remedy}")
