"""One bad item in a folder is one row with a reason, in every command, and the others are read."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.sources import build, draw_image

from cxr_tfds import regular_files
from cxr_tfds.building.fitting import FitSettings
from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.export.edge.evaluate import find_labelled_images
from cxr_tfds.export.edge.input_files import InputFile, list_files
from cxr_tfds.export.edge.predict import predict_files
from cxr_tfds.imaging.pixels import DecodeResult, decode
from cxr_tfds.looking.contact_sheet import sample_rows
from cxr_tfds.looking.survey import scan_source, survey_source
from cxr_tfds.sources.paths import FOLLOW_LINKS

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs pipes, devices and links")

IMAGES = 16  # that can be read
Patch = pytest.MonkeyPatch


def bind_socket(folder: Path, patch: Patch) -> None:
    patch.chdir(folder)  # the path of a socket has at most about 100 bytes
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("bad.png")


def copy_to(name: bytes) -> Callable[[Path, Patch], object]:
    return lambda folder, _: shutil.copy(folder / "0.png", os.fsencode(folder) + b"/" + name)


def lock(folder: Path, patch: Patch, scandir: Any = os.scandir) -> None:
    """Denies access to a folder; `chmod` does not stop root."""
    draw_image(folder / "bad.png" / "inside.png")

    def denied(path: Any = ".") -> Any:
        if not isinstance(path, int) and os.fsdecode(path).endswith("bad.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    patch.setattr(os, "scandir", denied)


def while_reading(change: Callable[[Path], object]) -> Callable[[Path, Patch], None]:
    """Changes a file after its size was read, or between listing and reading."""

    def prepare(folder: Path, patch: Patch) -> None:
        path, check = draw_image(folder / "bad.png"), regular_files._check_regular
        inode = path.stat().st_ino

        def checked(status: os.stat_result) -> None:
            check(status)
            if status.st_ino == inode and path.exists():
                change(path)

        patch.setattr(regular_files, "_check_regular", checked)

    return prepare


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


OUTSIDE = "a link out of the source"
# How to make bad.png in the folder of a class, the reason of a source, and of `cxr-infer predict`,
# which follows links that its user made; "" is an image.
ITEMS: dict[str, tuple[Callable[[Path, Patch], object], str, str]] = {
    "link to itself": (
        lambda folder, _: (folder / "bad.png").symlink_to("bad.png"),
        "a link that leads to itself",
        "a link that leads to itself",
    ),
    "links to each other": (
        lambda folder, _: [
            (folder / "bad.png").symlink_to("other"), (folder / "other").symlink_to("bad.png")
        ],
        "a link that leads to itself",
        "a link that leads to itself",
    ),
    "broken link": (
        lambda folder, _: (folder / "bad.png").symlink_to("moved.png"),
        "a link to a file that does not exist",
        "a link to a file that does not exist",
    ),
    "link below a file": (
        lambda folder, _: (folder / "bad.png").symlink_to("0.png/inside.png"),
        "cannot be read: Not a directory",
        "cannot be read: Not a directory",
    ),
    "link to a file outside": (
        lambda folder, _: (folder / "bad.png").symlink_to(folder.parents[1] / "secret/x.png"),
        OUTSIDE,
        "",
    ),
    "link to a folder outside": (
        lambda folder, _: (folder / "bad.png").symlink_to(folder.parents[1] / "secret"),
        OUTSIDE,
        "a link to a folder, which is not followed",
    ),
    "link to the disk": (
        lambda folder, _: (folder / "bad.png").symlink_to("/"),
        OUTSIDE,
        "a link to a folder, which is not followed",
    ),
    "link to the folder above": (
        lambda folder, _: (folder / "bad.png").symlink_to(".."),
        "a link to a folder that contains it",
        "a link to a folder, which is not followed",
    ),
    "pipe": (
        lambda folder, _: os.mkfifo(folder / "bad.png"),
        "a pipe, not a regular file",
        "a pipe, not a regular file",
    ),
    "socket": (bind_socket, "a socket, not a regular file", "a socket, not a regular file"),
    "device": (
        lambda folder, _: (folder / "bad.png").symlink_to("/dev/zero"),
        "a device, not a regular file",
        "a device, not a regular file",
    ),
    "name of bytes": (copy_to(b"bad\xff.png"), "the name is not valid UTF-8", ""),
    "name of two lines": (copy_to(b"bad\n.png"), "the name contains a line break", ""),
    "name with a line separator": (copy_to("bad\u2028.png".encode()), "the name contains a", ""),
    "folder without permission": (lock, "permission denied", "permission denied"),
    "file that grows": (
        while_reading(grow),
        "changed while it was read",
        "changed while it was read",
    ),
    "file that vanishes": (while_reading(Path.unlink), "no longer exists", "no longer exists"),
}  # fmt: skip


class StandIn:
    """A classifier that answers every image that can be decoded."""

    def decode(self, data: bytes) -> DecodeResult:
        return decode(data, 16)

    def predict(self, pixels: np.ndarray) -> str:
        return f"{pixels.shape}"


def answer(files: Iterable[InputFile]) -> tuple[int, dict[str, str]]:
    """Returns the number of predictions, and name to reason of the others."""
    rows = list(predict_files(StandIn(), files))  # type: ignore[arg-type]
    bad = {x.name: result.reason for x, result in rows if isinstance(result, BadImage)}
    return len(rows) - len(bad), bad


def predict(source: Path) -> tuple[int, dict[str, str]]:
    return answer(list_files([str(source)]))


def evaluate(source: Path) -> tuple[int, dict[str, str]]:
    info: Any = SimpleNamespace(reader={}, several_findings=False, labels=("Normal", "TB"))
    return answer(find_labelled_images(source, info, {}).files)


def summarize(source: Path) -> tuple[int, dict[str, str]]:
    report = survey_source(scan_source(source, None, {})).report
    assert "unusable" in report["build"]["error"]  # as a build refuses it
    return report["splits"]["train"]["images"], report["bad_images"]


def preview(source: Path) -> tuple[int, dict[str, str]]:
    listing = scan_source(source, None, {}).listing
    rows = sample_rows(listing.images, listing.classes, FitSettings(16), each=20, seed=0)
    cells = [cell for row in rows for cell in row.cells]
    bad = {cell.name: cell.note for cell in cells if cell.pixels is None}
    return len(cells) - len(bad), bad


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("Normal", "TB"):
        for number in range(IMAGES // 2):
            draw_image(tmp_path / f"source/{name}/{number}.png", size=(12 + number, 10 + len(name)))
    draw_image(tmp_path / "secret/x.png")
    return tmp_path / "source"


@pytest.mark.parametrize("command", [predict, evaluate, summarize, preview])
@pytest.mark.parametrize("item", ITEMS)
def test_a_bad_item_is_one_row(
    item: str,
    command: Callable[[Path], tuple[int, dict[str, str]]],
    source: Path,
    monkeypatch: Patch,
) -> None:
    make, in_source, in_predict = ITEMS[item]
    make(source / "TB", monkeypatch)
    answered, bad = command(source)
    expected = in_predict if command is predict else in_source
    extra = {name for name in bad if name.rpartition("/")[2] == "other"}  # without a suffix
    (reason,) = {bad[name] for name in bad.keys() - extra} or {""}
    assert reason.startswith(expected)
    assert len(bad) - len(extra) == bool(expected)
    assert answered == IMAGES + (not expected)
    assert all("bad" in name for name in bad.keys() - extra)
    assert str(source.parent) not in reason  # a report is shared


def test_a_build_names_all_bad_items_or_leaves_them_out(
    source: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    from cxr_tfds.builders.xray_folder.xray_folder_dataset_builder import Builder

    (source / "TB/me.png").symlink_to("me.png")
    (source / "TB/out").symlink_to(source.parent / "secret")
    (source / "Normal/up").symlink_to("..")
    os.mkfifo(source / "Normal/first.png")
    os.mkfifo(source / "Normal/second.png")
    copy_to(b"\xff.png")(source / "TB", monkeypatch)
    source.rename(tmp_path / "train")
    (tmp_path / "all").mkdir()
    (tmp_path / "train").rename(tmp_path / "all/train")
    with pytest.raises(InputError, match=r"^6 unusable files:\n") as caught:
        build(Builder, tmp_path / "all", tmp_path / "data", split="source")
    rows = str(caught.value).splitlines()[1:7]
    assert [row.rpartition("/")[2].split(":")[0] for row in rows] == [
        "first.png", "second.png", "up", "\\udcff.png", "me.png", "out"
    ]  # fmt: skip
    settings = {"name": "skip", "split": "source", "on_bad_image": "skip"}
    built = build(Builder, tmp_path / "all", tmp_path / "data", **settings)
    assert built.info.splits.total_num_examples == IMAGES
    text = (Path(built.data_path) / "build_report.json").read_text(encoding="utf-8")
    assert [name.removeprefix("train/") for name in json.loads(text)["bad_images"]] == [
        "Normal/first.png", "Normal/second.png", "Normal/up/", "TB/\\udcff.png", "TB/me.png",
        "TB/out/",
    ]  # fmt: skip
    assert str(tmp_path) not in text


def test_follows_trusted_links(source: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv(FOLLOW_LINKS, "1")
    (source / "TB/bad.png").symlink_to(source.parent / "secret/x.png")
    (source / "TB/more").symlink_to(source.parent / "secret")
    assert evaluate(source) == (IMAGES + 2, {})


def test_what_is_unreadable_next_to_the_classes_is_named(source: Path) -> None:
    (source / "Flu").symlink_to("Flu")
    left_out = scan_source(source, None, {}).listing.left_out
    assert left_out == {"a link that leads to itself": ["Flu"]}


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_named_file_is_not_waited_for(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "bad.png")
    found = regular_files.read_or_explain(tmp_path / "bad.png")
    assert isinstance(found, BadImage)
    assert "not a" in found.reason
