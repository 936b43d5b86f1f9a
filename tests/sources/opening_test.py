"""Extracted copies are preferred, and archives are recognized and opened only if needed."""

from __future__ import annotations

import gzip
import logging
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources.classes import list_folder_images
from cxr_tfds.sources.layout import scan_splits
from cxr_tfds.sources.paths import FOLLOW_LINKS
from cxr_tfds.sources.settings import ReaderSettings

CLASSES = ("NORMAL", "PNEUMONIA")
IDS = [f"{split}/{name}/a.jpeg" for split in ("test", "train") for name in CLASSES]
Scan = Callable[[Path], list[str]]


def by_splits(source: Path) -> list[str]:
    return [file.image_id for file in scan_splits(source, "chest_xray", CLASSES).images]


def by_classes(source: Path) -> list[str]:
    return [file.image_id for file in list_folder_images(source, ReaderSettings()).images]


each_way = pytest.mark.parametrize("scan", [by_splits, by_classes])


def pack(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for image_id in IDS:
            archive.writestr(image_id, b"image")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@each_way
def test_opens_no_zip_next_to_an_extracted_copy(scan: Scan, tmp_path: Path) -> None:
    with zipfile.ZipFile(pack(tmp_path / "archive.zip")) as archive:
        archive.extractall(tmp_path / "chest_xray")
    (tmp_path / "half.zip").write_bytes((tmp_path / "archive.zip").read_bytes()[:200])
    (tmp_path / "elsewhere.zip").symlink_to("/elsewhere.zip")
    assert scan(tmp_path) == IDS
    (tmp_path / "chest_xray").rename(tmp_path / ".chest_xray")
    with pytest.raises(
        InputError, match=r"half\.zip is not a complete zip: .*Copy or download it again"
    ):
        scan(tmp_path)


@each_way
def test_ignores_conflicts_of_files_that_are_not_images(scan: Scan, tmp_path: Path) -> None:
    pack(tmp_path / "a.zip", README="of one set")
    pack(tmp_path / "b.zip", README="of another")
    assert scan(tmp_path) == IDS


@each_way
def test_refuses_a_link_to_a_zip_outside(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "archive.zip").symlink_to(pack(tmp_path / "secret.zip"))
    with pytest.raises(
        InputError,
        match=r"Links must not lead out of .*source\. Found 1:\n  .*archive\.zip -> .*secret\.zip",
    ):
        scan(source)
    assert scan(source / "archive.zip") == IDS  # given by the user
    monkeypatch.setenv(FOLLOW_LINKS, "1")
    assert scan(source) == IDS


def pack_tar(path: Path, mode: str = "w") -> Path:
    with zipfile.ZipFile(pack(path.with_name("temporary.zip"))) as archive:
        archive.extractall(path.with_name("temporary"))
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        file.add(path.with_name("temporary"), "chest_xray")
    path.with_name("temporary.zip").unlink()
    shutil.rmtree(path.with_name("temporary"))
    return path


@each_way
@pytest.mark.parametrize("name", ["archive", "archive.zip", "images.tar.gz", "ARCHIVE.TGZ"])
@pytest.mark.parametrize(
    "pack",
    [pack, pack_tar, lambda path: pack_tar(path, "w:gz"), lambda path: pack_tar(path, "w:xz")],
)
def test_recognizes_archives_by_content(
    pack: Callable[[Path], Path], name: str, scan: Scan, tmp_path: Path
) -> None:
    assert scan(pack(tmp_path / name)) == IDS
    if name != "archive":  # a folder may hold 100,000 images: their content is not looked at
        assert scan(tmp_path) == IDS


@each_way
@pytest.mark.parametrize(
    "content",
    [
        b"7z\xbc\xaf\x27\x1c",
        b"Rar!\x1a\7",
        b"",
        gzip.compress(b"a,b\n", mtime=0),
        b"\x1f\x8b",
        b"\x89PNG",
    ],
)
def test_names_the_accepted_archives(content: bytes, scan: Scan, tmp_path: Path) -> None:
    path = tmp_path / "images.7z"
    path.write_bytes(content)
    with pytest.raises(
        MissingData,
        match=r"(?s)not an archive that can be read \(\.zip, \.tar, \.tar\.gz, .*\.npz\)\. "
        "Extract other archives, such as 7z and rar, and give the folder",
    ):
        scan(path)


@each_way
def test_opens_no_tar_next_to_an_extracted_copy(
    scan: Scan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tarfile.open(pack_tar(tmp_path / "archive.tar")) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "half.tar.gz").write_bytes(b"\x1f\x8b")
    with caplog.at_level(logging.INFO):
        assert scan(tmp_path) == IDS
    assert f"Archives in {tmp_path} are ignored: using the extracted" in caplog.text
