"""Extracted copies are preferred, and zips are opened only if needed."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.sources.classes import scan_classes
from cxr_tfds.sources.layout import scan_splits
from cxr_tfds.sources.paths import FOLLOW_LINKS

CLASSES = ("NORMAL", "PNEUMONIA")
IDS = [f"{split}/{name}/a.jpeg" for split in ("test", "train") for name in CLASSES]
Scan = Callable[[Path], list[str]]


def by_splits(source: Path) -> list[str]:
    return [file.image_id for file in scan_splits(source, "chest_xray", CLASSES)]


def by_classes(source: Path) -> list[str]:
    return [file.image_id for file in scan_classes(source, CLASSES).images]


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
