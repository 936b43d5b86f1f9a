"""Names in zips are read in the code page of the machine that packed them."""

from __future__ import annotations

import logging
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from cxr_tfds.sources.archives import ArchivePath
from cxr_tfds.sources.opening import open_archives


class RawInfo(zipfile.ZipInfo):
    """Writes its name as given, without the flag for UTF-8."""

    __slots__ = ("raw",)

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802 - of zipfile
        return self.raw, self.flag_bits


def pack(
    path: Path, names: Sequence[bytes | str], extras: Mapping[bytes | str, bytes] | None = None
) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            if isinstance(name, bytes):
                info = RawInfo(name.hex())
                info.raw = name  # type: ignore[attr-defined]
            else:
                info = zipfile.ZipInfo(name)
            info.extra = (extras or {}).get(name, b"")
            file.writestr(info, b"content")
    return path


def list_names(path: Path) -> list[str]:
    def walk(folder: ArchivePath, prefix: str) -> list[str]:
        names = []
        for child in folder.iterdir():
            if child.is_dir():
                names += walk(child, f"{prefix}{child.name}/")
            else:
                assert child.read_bytes() == b"content"
                names.append(prefix + child.name)
        return names

    return walk(open_archives(path, [path]), "")


@pytest.mark.parametrize(
    ("encoding", "detected", "names"),
    [
        ("utf-8", "utf-8", ["肺炎/1.png", "正常/2.png"]),
        ("utf-8", "utf-8", ["größe/1.png"]),
        ("gbk", "gb2312", ["肺炎/1.png", "正常/2.png"]),
        ("gbk", "gb2312", ["新冠肺炎/1.png", "无异常/2.png"]),
        ("gbk", "gbk", ["囧囧/1.png", "喆肺炎/2.png"]),
        ("cp932", "cp932", ["肺炎/1.png", "正常/2.png"]),
        ("cp932", "cp932", ["コロナウイルス/1.png", "異常なし/2.png"]),
        ("cp932", "cp932", ["表/ソ.png", "正常/1.png"]),  # 表 and ソ hold the byte of a backslash
        ("cp437", "cp437", ["Lungenentzündung/größe.png", "übrige/1.png"]),
        ("cp437", "cp437", ["été/1.png"]),
        ("cp437", "cp437", ["Señor/niño.png"]),
        ("cp1252", "cp1252", ["Lungenentzündung/1.png", "Überwachung/Fälle.png"]),
        ("cp1252", "cp1252", ["Pulmón/Tórax.png"]),
    ],
)
def test_detects_the_code_page(
    encoding: str,
    detected: str,
    names: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = pack(tmp_path / "a.zip", ["plain/1.png", *(name.encode(encoding) for name in names)])
    with caplog.at_level(logging.INFO):
        assert list_names(path) == ["plain/1.png", *names]
    if names != ["été/1.png"]:  # too short to be sure: the name stays what the zip format states
        assert f"a.zip are read as {detected}: {names[0]}" in caplog.text


def test_keeps_the_names_if_no_encoding_fits_all(tmp_path: Path) -> None:
    names = ["肺炎/1.png".encode(), b"\xff\xff\xb0/1.png"]
    path = pack(tmp_path / "a.zip", names)
    assert list_names(path) == [name.decode("cp437") for name in names]


def test_the_flag_for_utf8_wins(tmp_path: Path) -> None:
    names: list[bytes | str] = ["größe/1.png", "正常/2.png".encode("gbk")]
    assert list_names(pack(tmp_path / "a.zip", names)) == ["größe/1.png", "正常/2.png"]


def unicode_path(raw: bytes, name: bytes) -> bytes:
    data = struct.pack("<BI", 1, zlib.crc32(raw)) + name
    other = struct.pack("<HHB", 0x5455, 1, 0)
    return other + struct.pack("<HH", 0x7075, len(data)) + data


def test_the_unicode_path_wins_if_it_belongs_to_the_name(tmp_path: Path) -> None:
    raw = "正常/1.png".encode("gbk")
    right = unicode_path(raw, "normal/ä.png".encode())
    assert list_names(pack(tmp_path / "a.zip", [raw], {raw: right})) == ["normal/ä.png"]
    for wrong in (unicode_path(b"renamed", b"x.png"), unicode_path(raw, b"\xff"), right[:7]):
        assert list_names(pack(tmp_path / "a.zip", [raw], {raw: wrong})) == ["正常/1.png"]


def test_refuses_a_unicode_path_out_of_the_folder(tmp_path: Path) -> None:
    extra = unicode_path(b"a.png", b"../a.png")
    path = pack(tmp_path / "a.zip", [b"a.png"], {b"a.png": extra})
    with pytest.raises(ValueError, match=r"entry '\.\./a\.png' points outside the folder"):
        list_names(path)
