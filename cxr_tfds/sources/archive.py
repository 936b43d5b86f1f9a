"""Reads files inside zips without extracting them to disk.

Each path knows its position in the zip, so any thread or process can read it, also after pickling.
A `zipfile.ZipFile` would load the zip's complete directory into each of them.
"""

from __future__ import annotations

import dataclasses
import functools
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.sources.paths import SPLIT_NAMES, check_links, is_junk, printable

# The largest image that is decoded has 100 million pixels: 600 MB as 16-bit colour.
MAX_ENTRY_BYTES = 1 << 30
# Deflate shrinks zeros 1,030 times and radiographs hardly at all. Small entries may be empty pages.
MAX_RATIO = 200
_MIN_BYTES_FOR_RATIO = 1 << 20
_ENCRYPTED = 0x1  # general purpose flag, APPNOTE.TXT 4.4.4
_UNIX = 3  # "version made by", 4.4.2: the upper half of the external attributes is st_mode
_LOCAL_HEADER_BYTES = 30  # 4.3.7


@dataclasses.dataclass(frozen=True)
class ZipPath:
    """A path inside one or several zips, with the methods of `pathlib.Path` that readers need."""

    path: str  # the zip, or the folder with the zips, and the path inside
    archive: str = ""  # the zip of a file
    info: zipfile.ZipInfo | None = dataclasses.field(default=None, compare=False)  # of a file
    load_children: Callable[[], dict[str, ZipPath]] | None = None  # of a folder
    conflict: str = ""  # path of a different file with the same name in another zip

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @functools.cached_property
    def children(self) -> dict[str, ZipPath]:
        """The content of a folder by name, loaded on first use."""
        return self.load_children() if self.load_children else {}

    def is_dir(self) -> bool:
        """Returns whether this is a folder."""
        return self.load_children is not None

    def is_file(self) -> bool:
        """Returns whether this is a file."""
        return self.info is not None

    def iterdir(self) -> Iterator[ZipPath]:
        """Returns the content of a folder."""
        return iter(self.children.values())

    def check_unique(self) -> None:
        """Raises InputError if another zip has a different file with the same name."""
        if self.conflict:
            raise InputError(
                f"Conflicting files: {printable(self)} and {printable(self.conflict)} have the "
                "same name but different contents. Remove one."
            )

    def read_bytes(self) -> bytes:
        """Returns the decompressed content, never more than the zip's directory announces.

        Raises:
          BadImage: The entry is corrupt or differs from the zip's directory.
        """
        self.check_unique()
        if self.info is None:
            raise FileNotFoundError(self.path)
        with Path(self.archive).open("rb") as file:
            file.seek(self.info.header_offset)
            header = file.read(_LOCAL_HEADER_BYTES)
            if len(header) < _LOCAL_HEADER_BYTES or header[:4] != b"PK\3\4":
                raise BadImage("corrupt in the zip: not at its listed position")
            name_bytes, extra_bytes = struct.unpack("<HH", header[26:])
            file.seek(name_bytes + extra_bytes, 1)
            data = file.read(self.info.compress_size)
        if self.info.compress_type == zipfile.ZIP_DEFLATED:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, self.info.file_size + 1)
            except zlib.error as err:
                raise BadImage(f"corrupt in the zip: {err}") from err
        if len(data) != self.info.file_size or zlib.crc32(data) != self.info.CRC:
            raise BadImage("corrupt in the zip: wrong length or checksum")
        return data

    def __truediv__(self, name: str) -> ZipPath:
        path = self
        for part in PurePosixPath(name).parts:
            path = path.children.get(part) or ZipPath(f"{path}/{part}")
        return path

    def __str__(self) -> str:
        return self.path


SourcePath = Path | ZipPath  # several threads may read from one


def open_archives(source: Path, archives: Sequence[Path]) -> ZipPath:
    """Returns one folder with the content of all zips, which are opened on first use.

    A zip gets a folder with its own name if it holds only files, such as `NORMAL.zip`, or if it is
    named after a split and holds no split folder. First use raises InputError if a zip is unsafe,
    incomplete or reached through a link out of `source`.
    """

    def load() -> dict[str, ZipPath]:
        check_links(source, archives)
        root = ZipPath(str(source), load_children=dict)
        for archive in archives:
            entries = _read_entries(archive)
            top_names = {parts[0].casefold() for parts, _ in entries}
            needs_folder = all(len(parts) == 1 and leaf.is_file() for parts, leaf in entries) or (
                archive.stem.casefold() in SPLIT_NAMES and not top_names & set(SPLIT_NAMES)
            )
            for parts, leaf in entries:
                _insert(root, [archive.stem, *parts] if needs_folder else parts, leaf)
        return root.children

    return ZipPath(str(source), load_children=load)


def _insert(folder: ZipPath, parts: Sequence[str], leaf: ZipPath) -> None:
    is_last = len(parts) == 1
    new = leaf if is_last else ZipPath(f"{folder}/{parts[0]}", load_children=dict)
    existing = folder.children.setdefault(parts[0], new)
    if existing.is_dir() != new.is_dir():
        raise InputError(f"{printable(existing)} is both a file and a folder. Pack it again.")
    if not is_last:
        _insert(existing, parts[1:], leaf)
    elif (a := existing.info) and (b := leaf.info) and (a.file_size, a.CRC) != (b.file_size, b.CRC):
        # Reported once it is read: the README files of two zips may well differ.
        folder.children[parts[0]] = dataclasses.replace(existing, conflict=str(leaf))


def _read_entries(archive: Path) -> list[tuple[Sequence[str], ZipPath]]:
    """Returns the parts of each path in a zip and the path itself, without junk."""
    try:
        with zipfile.ZipFile(archive) as file:
            infos = file.infolist()
    except OSError as err:
        raise InputError(f"Cannot read {archive}: {err.strerror or err}.") from err
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as err:
        message = f"{archive} is not a complete zip: {err}. Copy or download it again."
        raise InputError(message) from err
    check_entries(archive, infos)
    entries: list[tuple[Sequence[str], ZipPath]] = []
    for info in infos:
        inner = _get_inner_path(info)
        leaf = ZipPath(f"{archive}/{inner}", str(archive), info)
        if info.is_dir():
            leaf = ZipPath(leaf.path, load_children=dict)
        if not any(map(is_junk, inner.parts)):
            entries.append((inner.parts, leaf))
    return entries


def _get_inner_path(info: zipfile.ZipInfo) -> PurePosixPath:
    return PurePosixPath(info.filename.replace("\\", "/"))  # some Windows tools write backslashes


def check_entries(archive: Path, infos: Sequence[zipfile.ZipInfo]) -> None:
    """Checks that every entry of a zip is safe and readable, before any is decompressed.

    Raises:
      InputError: Entries overlap, or one points outside the folder, is a link, is encrypted, uses
        an unsupported compression or decompresses to too many bytes.
    """
    if sum(info.compress_size for info in infos) > archive.stat().st_size:
        raise InputError(f"{archive} has overlapping entries or is incomplete. Download it again.")
    for info in infos:
        path = _get_inner_path(info)
        remedy = "Do not trust this zip. Download it again, or pack it again without this entry."
        if not path.parts or path.is_absolute() or ".." in path.parts or path.parts[0][-1] == ":":
            problem = "points outside the folder"
        elif info.create_system == _UNIX and stat.S_ISLNK(info.external_attr >> 16):
            problem = "is a link"
        elif info.flag_bits & _ENCRYPTED:
            problem, remedy = "is encrypted", "Extract it with its password and give the folder."
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            method = zipfile.compressor_names.get(info.compress_type, info.compress_type)  # type: ignore[attr-defined]
            problem, remedy = f"uses {method} compression", "Extract it and give the folder."
        elif info.file_size > MAX_ENTRY_BYTES:
            problem = f"has {info.file_size:,} bytes; at most {MAX_ENTRY_BYTES:,} are allowed"
        elif info.file_size > max(_MIN_BYTES_FOR_RATIO, MAX_RATIO * info.compress_size):
            problem = f"has {info.file_size:,} bytes, over {MAX_RATIO} times its compressed size"
        else:
            continue
        raise InputError(f"{archive}: entry {info.filename!r} {problem}. {remedy}")
