"""Turns an encoded image file into a square greyscale array. Needs only Pillow and NumPy.

Builders, the input pipeline and `cxr-infer` all call `radiograph`, so a model sees the same pixels
on the device, bit for bit, as in training.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageOps

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.imaging.deep_pixels import check_colour, deep_grey
from cxr_tfds.imaging.dicom import dicom_grey, is_dicom
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.imaging.opening import bytes_per_pixel, open_image, read_orientation
from cxr_tfds.imaging.pixel_stats import PixelStats
from cxr_tfds.limits import check_file_size, reserve_memory

FITS = ("stretch", "pad", "crop")
MAX_SIZE = 4096

# Suffixes of the formats that are opened and of DICOM, for places where only a name identifies an
# image file.
SUFFIXES = frozenset({
    ".bmp", ".dcm", ".dicom", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo",
    ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
})  # fmt: skip
_DEFAULT_LEVELS = GreyLevels()
_SAMPLE_SIDE = 128  # at most so many rows and columns are sampled to count grey levels
_STRIP_PIXELS = 1 << 20
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # of EXIF orientations


class Radiograph(NamedTuple):
    """A decoded image, fitted to a square, and what is known of its source file.

    `radiograph` leaves the fields from `file_size` on empty; `cxr_tfds.building.fitting` sets them.
    """

    pixels: np.ndarray  # uint8 (S, S, C), 0 to 255, MONOCHROME2: bone is bright
    height: int  # of the source in pixels, upright
    width: int
    format: str = ""  # of the source: JPEG, PNG, …, DICOM
    mode: str = ""  # colour mode of the source as Pillow names it: L, RGB, …
    quantization: Sequence[int] = ()  # luminance quantization table of a JPEG, 64 values
    grey_levels: int | None = None  # in a sample of the pixels before fitting, if counted
    file_size: int = 0  # bytes
    checksum: int = 0  # of the file, 64 bits
    pixel_checksum: int = 0  # of the fitted pixels, 64 bits
    source: bytes = b""  # the file itself, if a dataset stores it
    statistics: PixelStats | None = None


DecodeResult = Radiograph | BadImage


def check_fit(size: int, channels: int, fit: str) -> None:
    """Checks size (1 to 4096), channels (1 or 3) and fit; raises InputError if one is invalid."""
    if not isinstance(size, Integral) or not 1 <= size <= MAX_SIZE:
        raise InputError(f"size={size!r}; expected a whole number of pixels, 1 to {MAX_SIZE}.")
    if not isinstance(channels, Integral) or channels not in (1, 3):
        raise InputError(
            f"channels={channels!r}; expected 1 (greyscale) or 3 (greyscale repeated)."
        )
    if fit not in FITS:
        raise InputError(f"fit={fit!r}; expected one of {', '.join(FITS)}.")


def decode(
    data: bytes,
    size: int,
    *,
    fit: str = "stretch",
    channels: int = 1,
    levels: GreyLevels = _DEFAULT_LEVELS,
    count_levels: bool = False,
) -> DecodeResult:
    """Returns what `radiograph` returns, or the `BadImage` that it raises."""
    try:
        return radiograph(
            data, size, fit=fit, channels=channels, levels=levels, count_levels=count_levels
        )
    except BadImage as err:
        return BadImage(err.reason, err.path)  # without a traceback, which would keep `data` alive


def radiograph(
    data: bytes,
    size: int,
    *,
    fit: str = "stretch",
    channels: int = 1,
    levels: GreyLevels = _DEFAULT_LEVELS,
    count_levels: bool = False,
) -> Radiograph:
    """Returns an image file decoded, converted to greyscale and fitted to `size` x `size`.

    Args:
      data: Contents of the file. The format is recognised by contents, never by name.
      size: S, the side of the square in pixels.
      fit: "stretch" scales both sides to S; "pad" keeps the aspect ratio and centres the image on
        black; "crop" keeps it and cuts out the centre. The default is "stretch" because the aspect
        ratio in the Kaggle pneumonia set differs by class: padding would show the label.
      channels: 1, or 3 to repeat the grey value.
      levels: How values of more than 8 bits become grey values, the same for a complete dataset.
      count_levels: Whether to count the grey levels before fitting, which interpolates new ones.

    Raises:
      BadImage: The file is empty, not an image, truncated, has several frames, exceeds the limits
        of `cxr_tfds.limits`, or is DICOM that `cxr_tfds.imaging.dicom` cannot read; or it does not
        fit `levels`.
      InputError: Size, fit or channels are out of range.
    """
    check_fit(size, channels, fit)
    upright = _decode_upright(data, size, levels)
    with _as_bad_image(upright.format):
        pixels = _array(_fit(upright.grey, size, fit), channels)
        count = _count_levels(upright.grey) if count_levels else None
    _, height, width, form, mode, quantization = upright
    return Radiograph(pixels, height, width, form, mode, quantization, count)


def upright_grey(data: bytes, longest: int, *, levels: GreyLevels = _DEFAULT_LEVELS) -> Image.Image:
    """Returns an image file as the network sees it, but in its own shape: upright, in mode L.

    Its longer side has at most `longest` pixels. Raises BadImage like `radiograph`.
    """
    upright = _decode_upright(data, longest, levels)
    with _as_bad_image(upright.format):
        scale = min(1, longest / max(upright.grey.size))
        width, height = (max(1, round(scale * side)) for side in upright.grey.size)
        return upright.grey.resize((width, height), Image.Resampling.BILINEAR)


class _Upright(NamedTuple):
    """A decoded file, before it is fitted."""

    grey: Image.Image  # mode L, loaded; a JPEG at a reduced size that still covers the fitted one
    height: int  # of the source, upright
    width: int
    format: str
    mode: str
    quantization: Sequence[int] = ()


def _decode_upright(data: bytes, size: int, levels: GreyLevels) -> _Upright:
    """Returns the image upright and grey, both sides of at least `size` if the source has them."""
    check_file_size(len(data))
    if is_dicom(data):
        shown = Image.fromarray(dicom_grey(data, levels))
        grey = shown.convert("L")
        if shown.mode != "L" and levels.percentile is not None:
            grey = Image.fromarray(levels.stretch(np.asarray(grey)))
        return _Upright(grey, shown.height, shown.width, "DICOM", shown.mode)
    image = open_image(data)
    width, height = image.size
    form, mode, tables = image.format or "", image.mode, getattr(image, "quantization", {})
    with reserve_memory(width, height, bytes_per_pixel(image)), _as_bad_image(form):
        orientation = read_orientation(image)
        # A JPEG is decoded at the smallest eighth that still covers S: several times faster, and
        # the inverse DCT at reduced size is an area average, so nothing aliases.
        drafted = image.draft("L", (size, size)) is not None
        if drafted:
            # Pillow's default, 64 KB at a time, takes 1 % longer.
            image.decodermaxblock = len(data)  # type: ignore[attr-defined]
        # Each copy costs 3 % of the decoding time.
        grey = image if drafted and image.mode == "L" else _grey(image, data, levels)
        if form != "TIFF" and orientation in _TRANSPOSITIONS:  # Pillow itself rotates a TIFF
            grey = grey.transpose(_TRANSPOSITIONS[orientation])
        if not mode.startswith("I") and levels.applies_to_8_bits:
            grey = Image.fromarray(levels.stretch(np.asarray(grey)))
        grey.load()
    if not drafted:
        width, height = grey.size
    elif orientation in (5, 6, 7, 8):
        width, height = height, width
    return _Upright(grey, height, width, form, mode, tables.get(0, ()))


@contextlib.contextmanager
def _as_bad_image(form: str) -> Iterator[None]:
    """Turns errors of Pillow's decoders, which raise many kinds, into BadImage."""
    try:
        yield
    except BadImage:
        raise
    except Exception as err:
        raise BadImage(f"cannot be decoded as {form}: {str(err) or type(err).__name__}") from err


def _count_levels(grey: Image.Image) -> int:
    """Returns the number of grey values in a grid of at most 128 x 128 pixels."""
    sides = min(grey.width, _SAMPLE_SIDE), min(grey.height, _SAMPLE_SIDE)
    return sum(map(bool, grey.resize(sides, Image.Resampling.NEAREST).histogram()))


def _array(grey: Image.Image, channels: int) -> np.ndarray:
    pixels = np.array(grey)[..., np.newaxis]
    return pixels if channels == 1 else np.repeat(pixels, channels, axis=-1)


def _grey(image: Image.Image, data: bytes, levels: GreyLevels) -> Image.Image:
    """Returns the image in mode L, MONOCHROME2, with transparent parts black."""
    if image.mode.startswith("I"):
        return Image.fromarray(deep_grey(image, data, levels))
    if image.mode == "F":
        raise BadImage("floating-point pixels of unknown range; save the image with 8 or 16 bits")
    check_colour(image, data)
    # Adobe stores CMYK inverted and marks it in a segment; Pillow inverts without that mark.
    inverts = image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info
    if not inverts and not image.has_transparency_data:
        return image.convert("L")
    grey = Image.new("L", image.size)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        strip = image.crop(box)
        if inverts:
            strip = ImageChops.invert(strip)
        else:
            layer = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", layer.size, "black"), layer)
        grey.paste(strip.convert("L"), box)
    return grey


def _fit(grey: Image.Image, size: int, fit: str) -> Image.Image:
    bilinear = Image.Resampling.BILINEAR  # in Pillow it averages all source pixels when it reduces
    if fit == "pad":
        # `ImageOps.pad` fails if the short side rounds to 0 pixels.
        sides = [max(1, round(size * side / max(grey.size))) for side in grey.size]
        inner = grey.resize(sides, bilinear)
        square = Image.new("L", (size, size))
        square.paste(inner, ((size - inner.width) // 2, (size - inner.height) // 2))
        return square
    if fit == "crop":
        return ImageOps.fit(grey, (size, size), bilinear)
    return grey.resize((size, size), bilinear)
