"""A compressed tar is decompressed once, to a temporary file that lasts as long as the process."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.sources.archives import ArchivePath, copies, tar
from cxr_tfds.sources.archives import path as archive_paths
from cxr_tfds.sources.image import SourceImage
from cxr_tfds.sources.layout import scan_splits

CLASSES = ("NORMAL", "PNEUMONIA")
FILES = {f"train/{c}/{i}.jpeg": f"{c}{i}".encode() * 99 for c in CLASSES for i in "ab"}


def pack(path: Path, files: dict[str, bytes]) -> Path:
    mode = "w" if path.suffix == ".tar" else f"w:{path.suffix[1:]}"
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def scan(source: Path) -> list[SourceImage]:
    return scan_splits(source, "chest_xray", CLASSES).images


def contents(source: Path) -> dict[str, bytes]:
    return {file.image_id: file.path.read_bytes() for file in scan(source)}


def test_decompresses_once_and_removes_the_copy_at_exit(tmp_path: Path) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    path = pack(tmp_path / "archive.tar.gz", FILES)
    code = (
        "import os, pathlib, sys; from cxr_tfds.sources.opening import open_archives\n"
        "path, folder = map(pathlib.Path, sys.argv[1:])\n"
        "for _ in range(2):\n"
        "    print((open_archives(path, [path]) / 'train/NORMAL/a.jpeg').is_file())\n"
        "print(len(list(folder.iterdir())))\n"
        "pid = os.fork()\n"
        "if not pid: sys.exit(0)\n"  # runs the handlers of the parent
        "os.waitpid(pid, 0); print(len(list(folder.iterdir())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path, folder],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "True", "1", "1"]
    assert not list(folder.iterdir())


def test_a_changed_tar_is_decompressed_again(tmp_path: Path) -> None:
    path = pack(tmp_path / "archive.tar.gz", FILES)
    assert contents(path) == FILES
    more = FILES | {"train/NORMAL/c.jpeg": b"more"}
    pack(path, more)
    assert contents(path) == more


def test_reports_a_missing_copy(tmp_path: Path) -> None:
    path = scan(pack(tmp_path / "archive.tar.gz", FILES))[0].path
    assert isinstance(path, ArchivePath)
    assert isinstance(path.entry, tar.TarEntry)
    Path(path.entry.file).unlink()
    with pytest.raises(InputError, match=r"does not exist here.*Extract the archive") as caught:
        path.read_bytes()
    assert not isinstance(caught.value, OSError)  # it would pass as one unreadable image
    assert contents(tmp_path) == FILES  # decompressed again


def test_reports_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    pack(tmp_path / "archive.tar.gz", FILES)
    monkeypatch.setattr(copies.os, "write", fail)
    with pytest.raises(
        InputError, match=r"Cannot decompress .*archive\.tar\.gz .*No space left.* Set TMPDIR"
    ):
        contents(tmp_path)
    assert not list((tmp_path / "temporary").iterdir())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"Cannot decompress .*absent.*Set TMPDIR"):
        contents(tmp_path)


def test_refuses_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = pack(tmp_path / "archive.tar.xz", FILES | {"train/NORMAL/bomb.jpeg": bytes(9 << 20)})
    with pytest.raises(InputError, match=r"decompresses to more than 1,048,576 bytes, too many"):
        contents(path)
    assert not list((tmp_path / "temporary").iterdir())
    monkeypatch.setattr(archive_paths, "MAX_ENTRY_BYTES", 1 << 20)
    pack(tmp_path / "large.tar", FILES | {"train/NORMAL/large.jpeg": bytes(2 << 20)})
    with pytest.raises(InputError, match=r"large\.jpeg' has 2,097,152 bytes; at most 1,048,576"):
        contents(tmp_path / "large.tar")
