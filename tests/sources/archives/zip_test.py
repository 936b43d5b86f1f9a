"""Zips are read without extraction, several as one source, and unsafe ones are refused."""

from __future__ import annotations

import concurrent.futures
import pickle
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.sources.archives import path as archive_paths
from cxr_tfds.sources.image import SourceImage
from cxr_tfds.sources.layout import scan_splits
from cxr_tfds.sources.opening import open_archives

CLASSES = ("NORMAL", "PNEUMONIA")
FILES = {
    f"{split}/{c}/{i}.jpeg": f"{split}{c}{i}".encode() * 9
    for split in ("train", "test")
    for c in CLASSES
    for i in "ab"
}


def pack(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def contents(source: Path) -> dict[str, bytes]:
    return {file.image_id: file.path.read_bytes() for file in scan(source)}


def scan(source: Path) -> list[SourceImage]:
    return scan_splits(source, "chest_xray", CLASSES).images


def under(prefix: str, files: dict[str, bytes] = FILES) -> dict[str, bytes]:
    return {prefix + name: content for name, content in files.items()}


@pytest.mark.parametrize("prefix", ["", "chest_xray/", "chest_xray/chest_xray/", "a/b/chest_xray/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_reads_a_zip_and_a_folder_with_a_zip(prefix: str, method: int, tmp_path: Path) -> None:
    path = pack(tmp_path / "archive.zip", under(prefix), method)
    assert contents(path) == contents(tmp_path) == FILES


def test_skips_the_nested_copy_and_junk_of_the_kaggle_zip(tmp_path: Path) -> None:
    junk = {
        "__MACOSX/chest_xray/train/NORMAL/._a.jpeg": b"\0\5",
        "chest_xray/.DS_Store": b"",
        "chest_xray/Thumbs.db": b"",
    }
    pack(tmp_path / "archive.zip", under("chest_xray/") | under("chest_xray/chest_xray/") | junk)
    files = scan(tmp_path)
    assert [file.image_id for file in files] == sorted(FILES)
    assert not any("chest_xray/chest_xray" in str(file.path) for file in files)


def test_refuses_a_nested_copy_with_more_images(tmp_path: Path) -> None:
    more = {"chest_xray/chest_xray/train/NORMAL/c.jpeg": b"only here"}
    pack(tmp_path / "archive.zip", under("chest_xray/") | under("chest_xray/chest_xray/") | more)
    with pytest.raises(
        InputError,
        match=r"chest_xray/chest_xray looks like a copy of .*1 of its images(.|\n)*c\.jpeg",
    ):
        contents(tmp_path)


def test_prefers_the_extracted_copy(tmp_path: Path) -> None:
    pack(tmp_path / "archive.zip", under("chest_xray/"))
    with zipfile.ZipFile(tmp_path / "archive.zip") as file:
        file.extractall(tmp_path)
    files = scan(tmp_path)
    assert [file.image_id for file in files] == sorted(FILES)
    assert all(isinstance(file.path, Path) for file in files)


@pytest.mark.parametrize(
    "name_of",
    [
        pytest.param(
            lambda name: ("a.zip" if "a.jpeg" in name else "b.zip", name), id="parts of one tree"
        ),
        pytest.param(lambda name: (f"{name.split('/')[0]}.zip", name), id="one a split"),
        pytest.param(
            lambda name: (f"{name.split('/')[0].upper()}.zip", name.partition("/")[2]),
            id="named for it",
        ),
    ],
)
def test_merges_several_zips(name_of: Callable[[str], tuple[str, str]], tmp_path: Path) -> None:
    packed: dict[str, dict[str, bytes]] = {}
    for name, content in FILES.items():
        archive, inner = name_of(name)
        packed.setdefault(archive, {})[inner] = content
    for archive, files in packed.items():
        pack(tmp_path / archive, files)
    assert len(packed) == 2
    assert contents(tmp_path) == FILES


def test_refuses_different_files_with_the_same_name(tmp_path: Path) -> None:
    pack(tmp_path / "a.zip", FILES)
    pack(tmp_path / "b.zip", {"train/NORMAL/a.jpeg": FILES["train/NORMAL/a.jpeg"]})
    assert contents(tmp_path) == FILES
    pack(tmp_path / "b.zip", {"train/NORMAL/a.jpeg": b"another"})
    with pytest.raises(
        InputError,
        match=r"a\.zip/train/NORMAL/a\.jpeg and .*b\.zip/.* have the same name but different",
    ):
        contents(tmp_path)


def test_refuses_an_empty_class_folder(tmp_path: Path) -> None:
    files = {name: content for name, content in FILES.items() if "test/NORMAL" not in name}
    pack(tmp_path / "archive.zip", files | {"test/NORMAL/": b""})
    with pytest.raises(InputError, match=r"test/NORMAL contains no images"):
        contents(tmp_path)


def test_reads_from_many_threads_and_after_pickling(tmp_path: Path) -> None:
    files = {f"train/{c}/{i}.jpeg": bytes([i]) * (i * 100) for i in range(100) for c in CLASSES}
    pack(tmp_path / "archive.zip", files)
    scanned = scan(tmp_path)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda file: file.path.read_bytes(), scanned * 3))
    assert got == [files[file.image_id] for file in scanned] * 3
    unpickled = pickle.loads(pickle.dumps(scanned[-1]))
    assert unpickled == scanned[-1]
    assert len(pickle.dumps(scanned[-1])) < 1000  # the file only, not the zip's directory


def entry(name: str, *, mode: int = 0o100644, system: int = 3) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.create_system = mode << 16, system
    return info


@pytest.mark.parametrize(
    ("info", "what"),
    [
        (entry("../outside.jpeg"), r"'\.\./outside\.jpeg' points outside the folder"),
        (entry("train/../../outside.jpeg"), "points outside the folder"),
        (entry("/etc/outside.jpeg"), "points outside the folder"),
        (entry("..\\outside.jpeg"), "points outside the folder"),
        (entry("C:/outside.jpeg"), "points outside the folder"),
        (entry("__MACOSX/../../outside.jpeg"), "points outside the folder"),
        (
            entry("train/NORMAL/link.jpeg", mode=stat.S_IFLNK | 0o777),
            r"'train/NORMAL/link\.jpeg' is a link",
        ),
    ],
)
def test_refuses_entries_outside_the_folder(
    info: zipfile.ZipInfo, what: str, tmp_path: Path
) -> None:
    path = pack(tmp_path / "archive.zip", FILES)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(info, b"/etc/passwd")
    with pytest.raises(InputError, match=rf"archive\.zip: entry .*{what}"):
        contents(tmp_path)


def test_refuses_bombs_before_decompression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        archive_paths.ArchivePath, "read_bytes", lambda self: pytest.fail("was decompressed")
    )
    bomb = FILES | {"train/NORMAL/bomb.jpeg": bytes(2 << 20)}
    pack(tmp_path / "archive.zip", bomb)
    with pytest.raises(
        InputError,
        match=r"'train/NORMAL/bomb\.jpeg' has 2,097,152 bytes, over 200 times",
    ):
        contents(tmp_path)
    pack(tmp_path / "archive.zip", bomb, zipfile.ZIP_STORED)
    monkeypatch.setattr(archive_paths, "MAX_ENTRY_BYTES", 1 << 20)
    with pytest.raises(
        InputError, match=r"bomb\.jpeg' has 2,097,152 bytes; at most 1,048,576 are allowed"
    ):
        contents(tmp_path)


def patch_directory(path: Path, name: str, at: int, value: bytes) -> None:
    """Overwrites a field of the entry's row in the zip's directory (APPNOTE.TXT, 4.3.12)."""
    data = bytearray(path.read_bytes())
    row = data.index(b"PK\1\2")
    while data[row + 46 : row + 46 + len(name)] != name.encode():
        row = data.index(b"PK\1\2", row + 4)
    data[row + at : row + at + len(value)] = value
    path.write_bytes(bytes(data))


def test_decompresses_no_more_than_announced(tmp_path: Path) -> None:
    path = pack(tmp_path / "archive.zip", {"t/a": bytes(1 << 20)})
    patch_directory(path, "t/a", 24, struct.pack("<I", 100))
    lying = open_archives(tmp_path, [path]) / "t/a"
    with pytest.raises(BadImage, match="corrupt in the zip: wrong length or checksum"):
        lying.read_bytes()


@pytest.mark.parametrize(
    ("at", "value", "what"),
    [
        (
            8,
            struct.pack("<H", 1),
            r"entry 'train/NORMAL/a\.jpeg' is encrypted\. Extract it with its password",
        ),
        (
            10,
            struct.pack("<H", 9),
            r"entry 'train/NORMAL/a\.jpeg' uses deflate64 compression\. Extract it and give",
        ),
        (20, struct.pack("<I", 1 << 30), r"archive\.zip has overlapping entries"),
    ],
)
def test_refuses_unreadable_entries(at: int, value: bytes, what: str, tmp_path: Path) -> None:
    path = pack(tmp_path / "archive.zip", FILES)
    patch_directory(path, "train/NORMAL/a.jpeg", at, value)
    with pytest.raises(InputError, match=what):
        contents(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_refuses_a_truncated_zip(share: float, tmp_path: Path) -> None:
    path = pack(tmp_path / "archive.zip", FILES)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(
        InputError, match=r"archive\.zip is not a complete zip: .*Copy or download it again"
    ):
        contents(path)


def test_reports_a_corrupt_entry_as_bad_image(tmp_path: Path) -> None:
    path = pack(tmp_path / "archive.zip", FILES, zipfile.ZIP_STORED)
    data = path.read_bytes()
    path.write_bytes(
        data.replace(FILES["train/NORMAL/a.jpeg"], FILES["train/NORMAL/a.jpeg"].swapcase())
    )
    (bad,) = [file for file in scan(path) if file.image_id == "train/NORMAL/a.jpeg"]
    with pytest.raises(BadImage, match="corrupt in the zip"):
        bad.path.read_bytes()


def test_reads_windows_separators(tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in FILES.items():
            info = zipfile.ZipInfo("x")
            info.filename = name.replace("/", "\\")
            file.writestr(info, content)
    assert contents(path) == FILES


def test_skips_the_entry_of_the_folder_itself(tmp_path: Path) -> None:
    path = pack(tmp_path / "archive.zip", {"./": b"", ".\\": b"", "train\\": b""} | FILES)
    assert contents(path) == FILES


@pytest.mark.parametrize("position", ["after the file", "before the file", "at no entry"])
def test_reports_a_wrong_position_as_bad_image(position: str, tmp_path: Path) -> None:
    path = pack(tmp_path / "archive.zip", FILES)
    if position == "before the file":
        # zipfile takes a larger offset of the directory for bytes that are missing at the start.
        data = bytearray(path.read_bytes())
        (at,) = struct.unpack_from("<I", data, len(data) - 6)
        struct.pack_into("<I", data, len(data) - 6, at + 100)
        path.write_bytes(data)
    else:
        offset = 1 if position == "at no entry" else 0xFFFFFFF0
        patch_directory(path, "train/NORMAL/a.jpeg", 42, struct.pack("<I", offset))
    bad = open_archives(path, [path]) / "train/NORMAL/a.jpeg"
    with pytest.raises(BadImage, match="corrupt in the zip: not at its listed position"):
        bad.read_bytes()


def test_refuses_an_entry_without_a_name(tmp_path: Path) -> None:
    path = pack(tmp_path / "archive.zip", FILES)
    patch_directory(path, "train/NORMAL/a.jpeg", 46, b"\0")
    with pytest.raises(InputError, match=r"archive\.zip: entry '' points outside the folder"):
        contents(path)
