"""`overlay`: colours by hand, and colours where the network looked, whatever the fit."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.sources import dicom_file, encode
from PIL import Image

from cxr_tfds.imaging.overlay import colour_scale, overlay
from cxr_tfds.imaging.pixels import FITS, radiograph, upright_grey

SIZE, GRID = 56, 7  # pixels of the network, cells of its heatmap


def test_overlay_by_hand() -> None:
    pixels = np.full((4, 4, 1), 100, np.uint8)
    drawn = np.asarray(overlay(pixels, np.array([[-5.0]], np.float32)))
    assert drawn.shape == (4, 4, 3)
    assert (drawn == 100).all()  # no evidence for the class
    drawn = np.asarray(overlay(pixels, np.array([[2.0]], np.float32)))
    assert (drawn == 0.4 * 100 + 0.6 * 255).all()  # white where it is largest
    drawn = np.asarray(overlay(pixels, np.array([[3.0, 0.0]], np.float32)))
    assert drawn[0, 0].sum() > drawn[0, 1].sum() > drawn[0, 3].sum() == 300
    black, heatmap = np.zeros((2, 2, 1), np.uint8), np.array([[1, 1 / 3], [2 / 3, 0]], np.float32)
    assert np.asarray(overlay(black, heatmap)).tolist() == [
        [[153, 153, 153], [51, 0, 0]],
        [[102, 102, 0], [0, 0, 0]],
    ]  # white, red, yellow


def test_colour_scale_goes_from_grey_to_the_brightest() -> None:
    scale = np.asarray(colour_scale(256, 3)).astype(int)
    assert scale.shape == (3, 256, 3)
    assert scale[0, 0].tolist() == [128, 128, 128]
    assert scale[0, -1].tolist() == [204, 204, 204]  # 0.4 of mid grey, 0.6 of white


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(300, 120), (120, 300), (160, 160)])
@pytest.mark.parametrize(
    ("form", "orientation"), [("PNG", 1), ("PNG", 6), ("JPEG", 3), ("JPEG", 8)]
)
def test_colours_lie_where_the_network_looked(
    fit: str, size: tuple[int, int], form: str, orientation: int
) -> None:
    """The heatmap is the brightness that the network sees; only one spot of the image is bright."""
    width, height = size
    stored = np.zeros((height, width), np.uint8)
    # Off the centre, within the part that "crop" keeps.
    top, left = height // 2 - 50, width // 2 + 10
    stored[top : top + 36, left : left + 36] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(stored), form, exif=exif)
    seen = radiograph(data, SIZE, fit=fit).pixels[..., 0]
    cell = SIZE // GRID
    heatmap = seen.reshape(GRID, cell, GRID, cell).mean(axis=(1, 3)).astype(np.float32)

    grey = np.asarray(upright_grey(data, 2048))
    drawn = np.asarray(overlay(grey, heatmap, fit)).astype(int)
    assert drawn.shape[:2] == grey.shape == (size if orientation in (6, 8) else size[::-1])
    coloured = np.argwhere(drawn[..., 0] - drawn[..., 2] > 40).mean(axis=0)
    bright = np.argwhere(grey > 128).mean(axis=0)
    pixels_per_cell = max(size) / GRID
    assert np.abs(coloured - bright).max() < 0.25 * pixels_per_cell


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_upright_grey_of_dicom_is_what_the_network_sees(photometric: str) -> None:
    values = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40)
    data = dicom_file(values, BitsStored=10, PhotometricInterpretation=photometric)
    grey = np.asarray(upright_grey(data, 2048))
    assert grey.shape == (24, 40)
    assert np.array_equal(radiograph(data, 24, fit="crop").pixels[..., 0], grey[:, 8:32])


def test_crop_darkens_what_the_network_did_not_see() -> None:
    drawn = np.asarray(overlay(np.full((40, 100), 100, np.uint8), np.zeros((2, 2)), "crop"))
    assert drawn[:, :30].max() == drawn[:, 70:].max() == 35
    assert (drawn[:, 30:70] == 100).all()


def test_pad_leaves_out_the_border() -> None:
    """A heatmap that is positive in the border alone does not colour the radiograph."""
    heatmap = np.zeros((8, 8), np.float32)
    heatmap[:2] = heatmap[-2:] = 1  # an image of 2 to 1 fills rows 2 to 5
    drawn = np.asarray(overlay(np.full((40, 80), 100, np.uint8), heatmap, "pad"))
    assert (drawn[10:30] == 100).all()


@pytest.mark.parametrize(("size", "expected"), [((500, 250), (100, 50)), ((60, 90), (60, 90))])
def test_upright_grey_is_bounded(size: tuple[int, int], expected: tuple[int, int]) -> None:
    for form in ("PNG", "JPEG"):
        image = upright_grey(encode(Image.new("RGB", size, "gray"), form), 100)
        assert (image.mode, image.size) == ("L", expected)
