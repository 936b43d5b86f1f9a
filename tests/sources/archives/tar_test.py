"""Tars are read without extraction. Compressed ones are decompressed once, to a temporary file."""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.sources.archives import ArchivePath
from cxr_tfds.sources.image import SourceImage
from cxr_tfds.sources.layout import scan_splits
from cxr_tfds.sources.opening import open_archives

CLASSES = ("NORMAL", "PNEUMONIA")
FILES = {
    f"{split}/{c}/{i}.jpeg": f"{split}{c}{i}".encode() * 99
    for split in ("train", "test")
    for c in CLASSES
    for i in "ab"
}
MODES = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}
each_kind = pytest.mark.parametrize("suffix", MODES)


def pack(
    path: Path, files: dict[str, bytes], *others: tarfile.TarInfo, mode: str = "", **kwargs: Any
) -> Path:
    suffix = "".join(path.suffixes[-2:]) if ".tar" in path.suffixes else path.suffix
    with tarfile.open(path, mode or MODES[suffix], **kwargs) as file:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        for info in others:
            file.addfile(info)
    return path


def scan(source: Path) -> list[SourceImage]:
    return scan_splits(source, "chest_xray", CLASSES).images


def contents(source: Path) -> dict[str, bytes]:
    return {file.image_id: file.path.read_bytes() for file in scan(source)}


def read_all(paths: list[ArchivePath]) -> list[bytes]:
    return [path.read_bytes() for path in paths]


@each_kind
@pytest.mark.parametrize("prefix", ["", "./", "chest_xray/"])
def test_reads_a_tar_and_a_folder_with_a_tar(suffix: str, prefix: str, tmp_path: Path) -> None:
    folder = tarfile.TarInfo(prefix or "train/")
    folder.type = tarfile.DIRTYPE
    files = {prefix + name: content for name, content in FILES.items()}
    path = pack(tmp_path / f"archive{suffix}", files, folder)
    assert contents(path) == contents(tmp_path) == FILES


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_long_names_of_each_format(format: int, tmp_path: Path) -> None:
    long = {f"train/NORMAL/{'a' * 90}.jpeg": b"long", "train/NORMAL/größe.jpeg": b"other"}
    pack(tmp_path / "archive.tar", FILES | long, format=format)
    assert contents(tmp_path) == FILES | long


@each_kind
def test_is_read_in_another_process(suffix: str, tmp_path: Path) -> None:
    paths = [file.path for file in scan(pack(tmp_path / f"archive{suffix}", FILES))]
    assert all(isinstance(path, ArchivePath) for path in paths)
    assert len(pickle.dumps(paths[0])) < 1000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(read_all, (paths,)) == [FILES[key] for key in sorted(FILES)]


def test_merges_a_folder_with_two_tars(tmp_path: Path) -> None:
    for name, suffix in (("NORMAL", ".tar"), ("PNEUMONIA", ".tar.gz")):
        files = {key: content for key, content in FILES.items() if name in key}
        pack(tmp_path / f"{name}{suffix}", files)
    assert contents(tmp_path) == FILES


def test_names_the_folder_of_a_tar_without_folders(tmp_path: Path) -> None:
    for key, content in FILES.items():
        split, name, file = key.split("/")
        path = tmp_path / split / f"{name}.tar.gz"
        path.parent.mkdir(exist_ok=True)
        if file == "a.jpeg":
            pack(path, {file: content})
    tops = open_archives(tmp_path / "train", sorted((tmp_path / "train").iterdir()))
    assert (tops / "NORMAL" / "a.jpeg").read_bytes() == FILES["train/NORMAL/a.jpeg"]


def test_compares_contents_of_files_with_the_same_name(tmp_path: Path) -> None:
    pack(tmp_path / "a.tar", FILES)
    key = "train/NORMAL/a.jpeg"
    pack(tmp_path / "b.tar", {key: FILES[key]})
    assert contents(tmp_path) == FILES
    pack(tmp_path / "b.tar", {key: FILES[key].swapcase()})  # of the same size
    with pytest.raises(InputError, match=r"Conflicting files: .*a\.tar/.* and .*b\.tar/"):
        contents(tmp_path)


def test_skips_a_nested_copy_with_the_same_contents(tmp_path: Path) -> None:
    nested = {f"copy/{key}": content for key, content in FILES.items()}
    pack(tmp_path / "a.tar", FILES | nested)
    assert contents(tmp_path) == FILES
    pack(tmp_path / "a.tar", FILES | nested | {"copy/train/NORMAL/a.jpeg": b"x" * 1386})
    with pytest.raises(InputError, match="copy looks like a copy of"):
        contents(tmp_path)


def hostile(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("info", "what"),
    [
        (hostile("../outside.jpeg"), r"'\.\./outside\.jpeg' points outside the folder"),
        (hostile("train/../../outside.jpeg"), "points outside the folder"),
        (hostile("/etc/outside.jpeg"), "points outside the folder"),
        (hostile("..\\outside.jpeg"), "points outside the folder"),
        (hostile("C:/outside.jpeg"), "points outside the folder"),
        (hostile("../train", tarfile.DIRTYPE), "points outside the folder"),
        (hostile("train/NORMAL/x.jpeg", tarfile.SYMTYPE), r"'train/NORMAL/x\.jpeg' is a link"),
        (hostile("train/NORMAL/x.jpeg", tarfile.LNKTYPE), "is a link"),
        (hostile("train/NORMAL/x.jpeg", tarfile.CHRTYPE), "is a device or a pipe"),
        (hostile("train/NORMAL/x.jpeg", tarfile.FIFOTYPE), "is a device or a pipe"),
        (hostile("train/NORMAL/x.jpeg", b"M"), "is of an unsupported type"),
    ],
)
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_refuses_hostile_entries(
    info: tarfile.TarInfo, what: str, suffix: str, tmp_path: Path
) -> None:
    pack(tmp_path / f"archive{suffix}", FILES, info)
    with pytest.raises(InputError, match=rf"archive\.tar.*: entry .*{what}"):
        contents(tmp_path)


def test_refuses_a_negative_size(tmp_path: Path) -> None:
    """Python up to 3.13.5 reads such a tar forever (CVE-2025-8194)."""
    info = hostile("train/NORMAL/x.jpeg")
    info.pax_headers = {"size": "-1024"}
    path = pack(tmp_path / "archive.tar", FILES, info, format=tarfile.PAX_FORMAT)
    with pytest.raises(InputError, match=r"is not a complete tar: "):
        contents(path)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_loads_no_large_header(kind: bytes, tmp_path: Path) -> None:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, 2 << 20
    path = tmp_path / "archive.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(3 << 20))
    with pytest.raises(InputError, match=r"not a complete tar: a header claims 2097\d+ bytes"):
        contents(path)


@each_kind
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.5, 0.9])
def test_refuses_a_truncated_tar(suffix: str, share: float, tmp_path: Path) -> None:
    path = pack(tmp_path / f"archive{suffix}", {k: os.urandom(9999) for k in FILES})
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=r"is not a complete tar: .*Copy or download it again"):
        contents(path)


def cut_between_entries(data: bytearray) -> bytearray:
    return data[: data.rindex(b"test/")]


def corrupt_a_header(data: bytearray) -> bytearray:
    at = data.index(b"test/PNEUMONIA/a")
    data[at : at + 4] = b"best"
    return data


def corrupt_deflate(data: bytearray) -> bytearray:
    data[len(data) // 2] ^= 0xFF
    return data


@pytest.mark.parametrize(
    ("suffix", "corrupt"),
    [
        (".tar", cut_between_entries),
        (".tar", corrupt_a_header),
        (".tar.gz", corrupt_deflate),
        (".tar.bz2", corrupt_deflate),
        (".tar.xz", corrupt_deflate),
    ],
)
def test_refuses_a_corrupt_tar(
    suffix: str, corrupt: Callable[[bytearray], bytearray], tmp_path: Path
) -> None:
    path = pack(tmp_path / f"archive{suffix}", FILES)
    path.write_bytes(corrupt(bytearray(path.read_bytes())))
    with pytest.raises(InputError, match=r"is not a complete tar: .*Copy or download it again"):
        contents(path)


def test_reports_a_tar_cut_after_listing_as_bad_image(tmp_path: Path) -> None:
    path = pack(tmp_path / "archive.tar", FILES)
    last = scan(path)[-1].path
    os.truncate(path, 1000)
    with pytest.raises(BadImage, match="corrupt in the archive: it ends early"):
        last.read_bytes()


def test_decodes_names_of_another_code_page(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = {f"train/{name}/1.png": name.encode() for name in ("肺炎", "正常")}
    path = pack(tmp_path / "archive.tar", files, encoding="gbk", format=tarfile.GNU_FORMAT)
    with caplog.at_level(logging.INFO):
        folder = open_archives(path, [path])
        assert (folder / "train/肺炎/1.png").read_bytes() == "肺炎".encode()
    assert "are read as gb2312: train/肺炎/1.png" in caplog.text
