"""Links out of a source, unreadable folders, and file names in messages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.sources.paths import FOLLOW_LINKS, check_links, find_folders, list_children


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source/train").mkdir(parents=True)
    (tmp_path / "source/train/a.jpeg").write_bytes(b"a")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/b.jpeg").write_bytes(b"b")
    return tmp_path / "source"


def files(source: Path) -> list[Path]:
    return [path for folder in source.iterdir() for path in folder.iterdir()]


def test_follows_links_within_the_source(source: Path) -> None:
    (source / "train/c.jpeg").symlink_to("a.jpeg")
    (source / "valid").symlink_to(source / "train")
    assert len(files(source)) == 4
    check_links(source, files(source))


def test_accepts_a_link_to_the_source(source: Path) -> None:
    (source.parent / "link").symlink_to(source)
    check_links(source.parent / "link", files(source.parent / "link"))


@pytest.mark.parametrize("link", ["train/b.jpeg", "test"])
def test_refuses_a_link_out_of_the_source(
    link: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / link).symlink_to(
        source.parent / "elsewhere" / ("b.jpeg" if link.endswith("jpeg") else "")
    )
    message = (
        r"Links must not lead out of .*source\. Found 1:\n"
        rf"  .*{link}.* -> .*elsewhere/b\.jpeg\nCopy"
    )
    with pytest.raises(InputError, match=message):
        check_links(source, files(source))
    monkeypatch.setenv(FOLLOW_LINKS, "1")
    check_links(source, files(source))


def test_refuses_a_broken_link_out_of_the_source(source: Path) -> None:
    (source / "train/lost.jpeg").symlink_to("/unmounted/lost.jpeg")
    with pytest.raises(InputError, match=r"lost\.jpeg -> /unmounted/lost\.jpeg"):
        check_links(source, files(source))


def test_refuses_a_neighbour_with_the_same_prefix(source: Path) -> None:
    (source.parent / "source2").mkdir()
    (source / "train/d.jpeg").symlink_to(source.parent / "source2" / "d.jpeg")
    with pytest.raises(InputError, match="source2"):
        check_links(source, files(source))


@pytest.mark.parametrize("missing", ["list", "enter"])
def test_reports_a_folder_without_permission(
    missing: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path, scandir: Any = os.scandir) -> Any:  # chmod does not stop root
        if path.name == "train":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    if missing == "list":
        monkeypatch.setattr(os, "scandir", denied)
    else:
        monkeypatch.setattr(
            os, "access", lambda path, mode: path.name != "train" or not mode & os.X_OK
        )
    with pytest.raises(
        InputError, match=r"Permission denied: .*train\. Check its read and execute permissions"
    ):
        list_children(source / "train")
    assert (
        find_folders(source, lambda folder: folder.name == "none") == []
    )  # skipped during a search


def test_find_folders_returns_the_nearest_level(tmp_path: Path) -> None:
    for path in ("a/x", "b/c/x", "d/x", "a/x/x", "__MACOSX/x"):
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
    found = find_folders(tmp_path, lambda folder: folder.name == "x")
    assert found == [tmp_path / "a/x", tmp_path / "d/x"]
    assert find_folders(tmp_path, lambda folder: folder.name == "y") == []
