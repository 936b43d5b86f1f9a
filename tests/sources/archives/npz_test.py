"""The arrays of MedMNIST are read as PNG files in class folders."""

from __future__ import annotations

import io
import logging
import multiprocessing
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources.archives import ArchivePath
from cxr_tfds.sources.archives import path as archive_paths
from cxr_tfds.sources.image import SourceImage
from cxr_tfds.sources.layout import scan_splits
from cxr_tfds.sources.opening import open_archives, open_source

Save = Callable[..., None]
each_way = pytest.mark.parametrize("save", [np.savez, np.savez_compressed])


def draw(channels: tuple[int, ...] = (), **changed: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 6), ("val", 3), ("test", 2)):
        arrays[f"{split}_images"] = random.integers(0, 256, (count, 5, 4, *channels), np.uint8)
        arrays[f"{split}_labels"] = np.arange(count, dtype=np.uint8)[:, None] % 2
    return {name: array for name, array in (arrays | changed).items() if array is not None}


def scan(source: Path) -> list[SourceImage]:
    return scan_splits(source, "medmnist", ("0", "1")).images


def decode(png: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def read_all(paths: list[ArchivePath]) -> list[bytes]:
    return [path.read_bytes() for path in paths]


@each_way
@pytest.mark.parametrize("channels", [(), (3,)])
def test_reads_the_images_losslessly(save: Save, channels: tuple[int, ...], tmp_path: Path) -> None:
    arrays = draw(channels)
    save(tmp_path / "pneumoniamnist.npz", **arrays)
    images = scan(tmp_path / "pneumoniamnist.npz")
    assert [image.image_id for image in images] == [
        *("test/0/000000.png", "test/1/000001.png"),
        *(f"train/{i % 2}/00000{i}.png" for i in (0, 2, 4, 1, 3, 5)),
        *("validation/0/000000.png", "validation/0/000002.png", "validation/1/000001.png"),
    ]
    for image in images:
        index = int(image.path.name.removesuffix(".png"))
        array = arrays[f"{image.split.replace('validation', 'val')}_images"][index]
        np.testing.assert_array_equal(decode(image.path.read_bytes()), array)
    assert [i.image_id for i in scan(tmp_path)] == [i.image_id for i in images]


@each_way
def test_is_read_in_another_process(save: Save, tmp_path: Path) -> None:
    save(tmp_path / "a.npz", **draw())
    paths = [image.path for image in scan(tmp_path)]
    assert len(pickle.dumps(paths[0])) < 1000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        read = pool.apply(read_all, (paths,))
    assert read == [path.read_bytes() for path in paths]


def test_reads_a_source_without_validation(tmp_path: Path) -> None:
    labels = np.array([0, 1, 0, 1, 0, 1])  # (N,) is as clear as (N, 1)
    arrays = draw(val_images=None, val_labels=None, train_labels=labels)
    np.savez(tmp_path / "a.npz", **arrays)
    assert {image.split for image in scan(tmp_path)} == {"train", "test"}


def test_reports_two_sets_as_conflict(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **draw())
    np.savez_compressed(tmp_path / "b.npz", **draw())
    assert len(scan(tmp_path)) == 11  # the same images
    np.savez(tmp_path / "b.npz", **draw((3,)))
    with pytest.raises(InputError, match=r"Conflicting files: .*a\.npz/.* and .*b\.npz/"):
        scan(tmp_path)


def test_ignores_other_npz_files_in_a_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    np.savez(tmp_path / "features.npz", features=np.zeros(3))
    assert open_source(tmp_path, "") == [tmp_path]
    np.savez(tmp_path / "medmnist.npz", **draw(), names=np.array(["a"]))
    assert len(scan(tmp_path)) == 11
    assert "medmnist.npz: the arrays names." in caplog.text
    assert caplog.records[0].levelno == logging.WARNING


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("was unpickled",))


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"train_labels": None}, r"has the arrays test_images, .*train_images, val_images"),
        ({"train_images": None}, r"has the arrays test_images"),
        ({"val_labels": None}, r"has the arrays"),
        ({"val_images": None}, r"has the arrays"),
        ({"train_images": np.zeros((6, 5, 4))}, r"train_images is float64 of shape \(6, 5, 4\)"),
        ({"train_images": np.zeros((6, 5), np.uint8)}, r"of shape \(6, 5\)"),
        ({"train_images": np.zeros((6, 5, 4, 2), np.uint8)}, r"of shape \(6, 5, 4, 2\)"),
        ({"train_images": np.zeros((6, 0, 4), np.uint8)}, r"of shape \(6, 0, 4\)"),
        (
            {"train_images": np.asfortranarray(np.zeros((6, 5, 4), np.uint8))},
            r"of shape \(6, 5, 4\) in Fortran order",
        ),
        (
            {"train_labels": np.zeros((6, 14), np.uint8)},
            r"train_labels is uint8 of shape \(6, 14\), for 6 images",
        ),
        ({"train_labels": np.zeros((5, 1), np.uint8)}, r"of shape \(5, 1\), for 6 images"),
        ({"train_labels": np.zeros((6, 1))}, "train_labels is float64"),
        ({"train_labels": np.array([Evil()] * 6)}, "train_labels holds Python objects"),
        ({"train_images": np.array([Evil()] * 6)}, "train_images holds Python objects"),
    ],
)
def test_refuses_other_arrays(changed: dict[str, Any], what: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **draw(**changed))
    with pytest.raises(
        InputError, match=rf"a\.npz.*{what}(.|\n)*Expected the arrays of MedMNIST: train_images"
    ):
        scan(tmp_path / "a.npz")


def rewrite(path: Path, name: str, edit: Callable[[bytes], bytes], method: int) -> None:
    with zipfile.ZipFile(path) as file:
        members = {info.filename: file.read(info) for info in file.infolist()}
    members[name] = edit(members[name])
    with zipfile.ZipFile(path, "w", method) as file:
        for member, content in members.items():
            file.writestr(member, content)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("name", ["train_images", "train_labels"])
@pytest.mark.parametrize(
    ("edit", "what"),
    [
        pytest.param(lambda data: data[:40], "EOF", id="cut in the header"),
        pytest.param(lambda data: data[:-1], "wrong number of bytes", id="cut in the data"),
        pytest.param(lambda data: data + b"x", "wrong number of bytes", id="too long"),
        pytest.param(lambda data: b"x" + data[1:], "magic string", id="no magic"),
        pytest.param(lambda data: data.replace(b"shape", b"shade"), "header", id="no shape"),
        pytest.param(lambda data: data.replace(b"{", b"("), "header", id="no dictionary"),
        pytest.param(lambda data: data[:6] + b"\3" + data[7:], "version", id="version 3"),
        pytest.param(lambda data: b"", "EOF", id="empty"),
    ],
)
def test_refuses_a_broken_array(
    edit: Callable[[bytes], bytes], what: str, name: str, method: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **draw())
    rewrite(path, f"{name}.npy", edit, method)
    with pytest.raises(
        InputError, match=rf"(?i)a\.npz is not a complete npz: {name}.*{what}.*Copy or download"
    ):
        scan(path)


@pytest.mark.parametrize("rows", [1 << 40, 1 << 62])
def test_allocates_no_announced_memory(rows: int, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **draw())
    text = repr(rows).encode()
    for name, shape in (("train_images", b"(6, 5, 4), }"), ("train_labels", b"(6, 1), }")):
        grown = shape.replace(b"6", text)
        rewrite(
            path,
            f"{name}.npy",
            lambda data, shape=shape, grown=grown: data.replace(  # type: ignore[misc]
                shape + b" " * (len(grown) - len(shape)), grown
            ),
            zipfile.ZIP_STORED,
        )
    with pytest.raises(InputError, match="train_labels has a wrong number of bytes"):
        scan(path)


@each_way
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_refuses_a_truncated_npz(save: Save, share: float, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    save(path, **draw())
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    for source in (path, tmp_path):
        with pytest.raises(InputError, match=r"a\.npz is not a complete npz: .*download it again"):
            scan(source)


def test_refuses_corrupt_compressed_data(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **draw())
    with zipfile.ZipFile(path) as file:
        info = file.getinfo("train_images.npy")
    data = bytearray(path.read_bytes())
    data[info.header_offset + 60 + info.compress_size // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.npz is not a complete npz: train_images"):
        scan(path)


def test_refuses_a_bomb(tmp_path: Path) -> None:
    images = np.zeros((200, 100, 100), np.uint8)
    arrays = draw(train_images=images, train_labels=np.zeros((200, 1), np.uint8))
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    with pytest.raises(
        InputError, match=r"entry 'train_images\.npy' has 2,000,128 bytes, over 200 times"
    ):
        scan(tmp_path)


def test_an_array_may_be_larger_than_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "a.npz", **draw())
    monkeypatch.setattr(archive_paths, "MAX_ENTRY_BYTES", 20)
    assert len(scan(tmp_path)) == 11
    monkeypatch.setattr(archive_paths, "MAX_ENTRY_BYTES", 19)
    with pytest.raises(InputError, match=r"'train_images\[0\]' has 20 bytes; at most 19"):
        scan(tmp_path)


def test_an_npz_without_images_is_missing_data(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w"):
        pass
    with pytest.raises(InputError, match="has the arrays nothing"):
        list(open_archives(tmp_path, [tmp_path / "a.npz"]).iterdir())
    with pytest.raises(MissingData):
        scan(tmp_path)
