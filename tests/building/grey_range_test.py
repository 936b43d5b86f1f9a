"""Tests that the range of source values is that of the dataset, and lost grey levels are found."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.sources import dicom_file, encode

from cxr_tfds.building.engines import fit_all
from cxr_tfds.building.file_stats import FileStats
from cxr_tfds.building.fitting import FitSettings
from cxr_tfds.building.grey_range import check_grey_levels, find_range, resolve_levels
from cxr_tfds.errors import InputError
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.imaging.pixels import Radiograph
from cxr_tfds.sources import SourceImage
from cxr_tfds.sources.opening import open_source

RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)


def ramp(top: int) -> np.ndarray:
    """Returns uint16 (64, 64) from 0 to `top`."""
    return (RAMP * top).astype(np.uint16)


def write(folder: Path, **contents: bytes) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return sorted(folder.iterdir())


def as_images(paths: list[Path]) -> list[SourceImage]:
    return [SourceImage(path, "train", "NORMAL", path.name) for path in paths]


def fit(paths: list[Path]) -> list[np.ndarray]:
    levels, _ = resolve_levels(as_images(paths), GreyLevels())
    results = list(fit_all(paths, FitSettings(64, levels=levels)))
    assert all(isinstance(result, Radiograph) for result in results)
    return [result.pixels[..., 0] for result in results if isinstance(result, Radiograph)]


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        pytest.param([encode(ramp(255).astype(np.uint8), "PNG")], None, id="8 bits"),
        pytest.param([encode(ramp(255).astype(np.uint8), "JPEG")], None, id="JPEG"),
        pytest.param([b"", b"II*\0", b"\x89PNG"], None, id="corrupt files"),
        pytest.param([encode(ramp(4000), "PNG")], (0, 4095), id="12 bits"),
        pytest.param(
            [encode(ramp(4000), "TIFF"), encode(ramp(5000), "TIFF")], (0, 5119), id="the largest"
        ),
        pytest.param([encode(ramp(65535), "PNG"), b""], (0, 65535), id="16 bits"),
        pytest.param(
            [dicom_file(ramp(3000), RescaleSlope=1, RescaleIntercept=-1024)],
            (-1024, 2047),
            id="Hounsfield units",
        ),
        pytest.param([dicom_file(ramp(3000), BitsStored=12)], None, id="declared bits"),
        pytest.param(
            [dicom_file(ramp(3000), WindowCenter=5, WindowWidth=9), encode(ramp(900), "PNG")],
            (0, 959),
            id="a window declares the range",
        ),
    ],
)
def test_range_of_a_dataset(
    tmp_path: Path, contents: list[bytes], expected: tuple[float, float] | None
) -> None:
    paths = write(tmp_path, **{str(i): content for i, content in enumerate(contents)})
    found = find_range(paths)
    assert (found and found[:2]) == expected


def test_all_images_have_the_same_mapping(tmp_path: Path) -> None:
    paths = write(tmp_path, a=encode(ramp(5000), "TIFF"), b=encode(ramp(4000), "TIFF"))
    bright, dark = fit(paths)
    assert bright.max() > 240
    np.testing.assert_allclose(dark / 4000, bright / 5000, atol=1 / 4000)


@pytest.mark.parametrize("value", [4096, 65535])
def test_hot_pixel_changes_no_other_pixel(tmp_path: Path, value: int) -> None:
    hot = ramp(4000)
    hot[0, 0] = value
    clean = write(tmp_path / "clean", a=encode(ramp(4000), "PNG"))
    with_hot = write(tmp_path / "hot", a=encode(hot, "PNG"))
    difference = fit(clean)[0] != fit(with_hot)[0]
    assert difference[0, 0]
    assert difference.sum() == 1


def test_settings_need_no_range(tmp_path: Path) -> None:
    paths = write(tmp_path, a=encode(ramp(4000), "PNG"))
    for levels in (GreyLevels(bits=12), GreyLevels(window="bone"), GreyLevels(percentile=(1, 99))):
        assert resolve_levels(as_images(paths), levels) == (levels, [])
    levels, (note,) = resolve_levels(as_images(paths), GreyLevels())
    assert levels == GreyLevels(measured=(0, 4095))
    assert note.startswith("Grey levels: source values 0 to 4095 become 0 to 255 in 1 file of")


def test_reads_zip_entries(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("NORMAL/a.png", encode(ramp(4000), "PNG"))
        archive.writestr("NORMAL/b.jpeg", encode(ramp(255).astype(np.uint8), "JPEG"))
    (root,) = open_source(tmp_path / "images.zip", "")
    folder = root / "NORMAL"
    found = find_range(list(folder.iterdir()))
    assert found is not None
    assert found[:3] == (0, 4095, 1)


GOOD = FileStats(0, 0, 1, 1, 1, "PNG", "L", None, 99.0, 50.0, 9.0, 9.0, 0.1, 0.1, 200)


def check(*classes: list[FileStats]) -> list[str]:
    stats = {
        f"{label}/{i:02d}": s
        for label, several in enumerate(classes)
        for i, s in enumerate(several)
    }
    images = [SourceImage(Path(name), "train", name[0], name) for name in stats]
    return check_grey_levels(images, stats)


def test_names_images_that_lost_their_grey_levels() -> None:
    few, black = GOOD._replace(grey_levels=31), GOOD._replace(black=0.99)
    assert check([GOOD] * 3, [GOOD._replace(grey_levels=32, black=0.98)] * 3) == []
    assert check([GOOD, few, black, GOOD], [GOOD]) == [
        "Images of fewer than 32 grey levels: 1 (0/01).",
        "Images with more than 98% black pixels: 1 (0/02).",
    ]
    (note,) = check([few] * 12 + [GOOD] * 12)
    assert "0/09 and" not in note
    assert note.count("0/") == 10


def test_refuses_a_class_that_lost_its_grey_levels() -> None:
    white = GOOD._replace(white=0.99)
    with pytest.raises(InputError, match=r"^Most images .*: 1 \(2 of 3\)\.\n.*\n.*percentile"):
        check([GOOD] * 3, [white, white, GOOD])
    assert len(check([GOOD] * 3, [white, GOOD])) == 1
