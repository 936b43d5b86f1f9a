"""`Classifier` takes paths, bytes, Pillow images, arrays and lists of them: the same pixels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxr_tfds.errors import BadImage, InputError, MissingData
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.image_input import encode_array, read_image
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.imaging.pixels import radiograph

LEVELS = GreyLevels(bits=12)


def draw(kind: str) -> np.ndarray:
    """Returns noise, of 12 bits in `uint16`."""
    dtype, _, channels = kind.partition(" ")
    shape = (50, 64, int(channels)) if channels else (50, 64)
    values = np.random.default_rng(0).integers(0, 4096, shape)
    if kind == "uint16 3":
        return (values << 4).astype(np.uint16)
    return values.astype(np.uint16) if dtype == "uint16" else (values >> 4).astype(np.uint8)


def fitted(image: Any) -> np.ndarray:
    return radiograph(read_image(image)[0], 32, levels=LEVELS).pixels


def save(array: np.ndarray, path: Path, **options: Any) -> Path:
    Image.fromarray(array.squeeze()).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("kind", ["uint8", "uint8 1", "uint8 3", "uint16", "uint16 1"])
def test_arrays_and_pillow_images_give_the_pixels_of_the_file(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    array = draw(kind)
    path = save(array, tmp_path / f"x.{suffix}")
    expected = fitted(path)
    np.testing.assert_array_equal(fitted(array), expected)
    np.testing.assert_array_equal(fitted(Image.fromarray(array.squeeze())), expected)
    np.testing.assert_array_equal(fitted(path.read_bytes()), expected)
    np.testing.assert_array_equal(fitted(array[:, ::-1][:, ::-1]), expected)  # not contiguous


def test_colour_of_16_bits_keeps_its_upper_8() -> None:
    array = draw("uint16 3")
    np.testing.assert_array_equal(fitted(array), fitted((array >> 8).astype(np.uint8)))
    with pytest.raises(BadImage, match="unscaled 12-bit values"):
        fitted(array >> 4)


@pytest.mark.parametrize("is_loaded", [False, True], ids=["unread", "loaded"])
def test_a_pillow_image_of_a_file_is_the_file(tmp_path: Path, is_loaded: bool) -> None:
    """A JPEG is decoded at a reduced size, and the bits of a TIFF are declared in the file."""
    jpeg = tmp_path / "x.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated
    Image.fromarray(draw("uint8")).resize((400, 300)).save(jpeg, exif=exif)
    inverted = save(draw("uint16"), tmp_path / "x.tiff", tiffinfo={262: 0})
    for path in (jpeg, inverted):
        with Image.open(path) as image:
            before = image.size
            if is_loaded:
                image.load()
            np.testing.assert_array_equal(fitted(image), fitted(path))
            assert image.size == before
            assert image.getpixel((0, 0)) is not None  # still readable


def test_a_changed_pillow_image_is_what_it_shows(tmp_path: Path) -> None:
    path = save(draw("uint8"), tmp_path / "x.png")
    with Image.open(path) as image:
        image.paste(0, (0, 0, *image.size))
        assert fitted(image).max() == 0
    assert fitted(path).max() > 0


def test_rotation_of_a_loaded_image_from_memory(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = save(draw("uint8"), tmp_path / "x.png", exif=exif).read_bytes()
    image = Image.open(io.BytesIO(content))
    image.load()
    np.testing.assert_array_equal(fitted(image), fitted(content))


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "HSV", "YCbCr", "I"])
def test_takes_pillow_images_of_other_modes(mode: str) -> None:
    assert fitted(Image.new(mode, (8, 8))).shape == (32, 32, 1)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.float32), r"array of float32 \(4, 4\); expected uint8 .*Scale the"),
        (np.zeros((4, 4), bool), r"array of bool \(4, 4\); expected uint8"),
        (np.zeros((4, 4), np.int64), r"array of int64"),
        (np.zeros((2, 4, 4, 1), np.uint8), r"\(2, 4, 4, 1\).*Give several images as a list"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\); expected"),
        (np.zeros((0, 4), np.uint8), r"\(0, 4\); expected"),
        (np.uint8(3), "an image of type uint8; expected a path"),
        (None, "an image of type NoneType; expected a path"),
        (3, "an image of type int; expected a path"),
        (Image.new("La", (4, 4)), "a Pillow image of mode La cannot be read"),
        (Image.new("F", (4, 4)), "floating-point pixels"),
        ("none.png", "none.png does not exist"),
    ],
)
def test_other_images_are_refused(image: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fitted(image)


def test_an_array_is_a_png_of_its_values() -> None:
    for kind in ("uint8", "uint8 3", "uint16"):
        array = draw(kind)
        image = Image.open(io.BytesIO(encode_array(array)))
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), array)


@pytest.mark.slow
def test_a_list_gives_a_list(models: dict[str, Path], tmp_path: Path) -> None:
    classifier = Classifier(models["int8"])
    array = draw("uint8")
    path = save(array, tmp_path / "x.png")
    with Image.open(path) as image:
        several = [path, str(path), path.read_bytes(), image, array]
        expected = classifier(path)
        assert classifier(several) == [expected] * 5 == [classifier(one) for one in several]
    with Image.open(path) as image:
        assert classifier([image] * 9) == [expected] * 9
    assert classifier(()) == []
    with pytest.raises(MissingData, match="none"):
        classifier([path, tmp_path / "none.png"])


@pytest.mark.slow
def test_describes_itself(models: dict[str, Path]) -> None:
    classifier = Classifier(models["int8"])
    assert classifier.threshold == 0.5
    assert repr(classifier).startswith(
        "Classifier(labels=('NORMAL', 'PNEUMONIA'), threshold=0.5, size=32, input='grey', "
        f"quantization='int8', runtime='{classifier.runtime} "
    )
    assert Classifier(models["three"]).threshold is None
