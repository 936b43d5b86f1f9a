"""Turns an encoded image file into a square greyscale array. Needs only Pillow and NumPy.

Builders, the input pipeline and `cxr-infer` all call `radiograph`, so a model sees the same pixels
on the device, bit for bit, as in training.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.imaging.dicom import DETECTOR_BITS, check_pixel_count, dicom_grey, is_dicom

FITS = ("stretch", "pad", "crop")
MAX_PIXELS = 100_000_000
MAX_SIZE = 4096

# Pillow then loads no decoder for other formats.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "GIF", "PPM", "WEBP", "JPEG2000")
# Suffixes of these formats and of DICOM, for places where only a name identifies an image file.
SUFFIXES = frozenset({
    ".bmp", ".dcm", ".dicom", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo",
    ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
})  # fmt: skip
_ORIENTATION = 0x0112  # EXIF tag; values 5 to 8 rotate by 90 degrees
_PHOTOMETRIC = 262  # TIFF tag; 0 is MONOCHROME1 (white is zero)
_BITS_PER_SAMPLE = 258  # TIFF tag
_PNG_SIGNATURE_BYTES = 8
_PNG_DEPTH_AT = 24  # offset of the bit depth in a PNG file
# Pillow promises OSError for corrupt bytes, but its decoders raise all of these.
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError,
    AttributeError, MemoryError, struct.error,
)  # fmt: skip


class Radiograph(NamedTuple):
    """A decoded image, fitted to a square, and what is known of its source file.

    `radiograph` leaves the last three fields empty; `cxr_tfds.building.fitting` sets them.
    """

    pixels: np.ndarray  # uint8 (S, S, C), 0 to 255, MONOCHROME2: bone is bright
    height: int  # of the source in pixels, upright
    width: int
    format: str = ""  # of the source: JPEG, PNG, …, DICOM
    mode: str = ""  # colour mode of the source as Pillow names it: L, RGB, …
    quantization: Sequence[int] = ()  # luminance quantization table of a JPEG, 64 values
    file_size: int = 0  # bytes
    checksum: int = 0  # 64 bits
    source: bytes = b""  # the file itself, if a dataset stores it


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


def decode(data: bytes, size: int, *, fit: str = "stretch", channels: int = 1) -> DecodeResult:
    """Returns what `radiograph` returns, or the `BadImage` that it raises."""
    try:
        return radiograph(data, size, fit=fit, channels=channels)
    except BadImage as err:
        return BadImage(err.reason, err.path)  # without a traceback, which would keep `data` alive


def radiograph(data: bytes, size: int, *, fit: str = "stretch", channels: int = 1) -> Radiograph:
    """Returns an image file decoded, converted to greyscale and fitted to `size` x `size`.

    Args:
      data: Contents of the file. The format is recognised by contents, never by name.
      size: S, the side of the square in pixels.
      fit: "stretch" scales both sides to S; "pad" keeps the aspect ratio and centres the image on
        black; "crop" keeps it and cuts out the centre. The default is "stretch" because the aspect
        ratio in the Kaggle pneumonia set differs by class: padding would show the label.
      channels: 1, or 3 to repeat the grey value.

    Raises:
      BadImage: The file is empty, not an image, truncated, has no or more than 100 million pixels,
        or is DICOM that `cxr_tfds.imaging.dicom` cannot read.
      InputError: Size, fit or channels are out of range.
    """
    check_fit(size, channels, fit)
    if is_dicom(data):
        shown = Image.fromarray(dicom_grey(data, MAX_PIXELS))
        pixels = _array(_fit(shown.convert("L"), size, fit), channels)
        return Radiograph(pixels, shown.height, shown.width, "DICOM", shown.mode)
    image = _open(data)
    width, height = image.size
    form, mode, tables = image.format or "", image.mode, getattr(image, "quantization", {})
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        # A JPEG is decoded at the smallest eighth that still covers S: several times faster, and
        # the inverse DCT at reduced size is an area average, so nothing aliases.
        drafted = image.draft("L", (size, size)) is not None
        if drafted:
            # Pillow's default, 64 KB at a time, takes 1 % longer.
            image.decodermaxblock = len(data)  # type: ignore[attr-defined]
        plain = drafted and image.mode == "L" and orientation == 1
        # Each copy costs 3 % of the decoding time.
        grey = image if plain else ImageOps.exif_transpose(_grey(image, data))
        pixels = _array(_fit(grey, size, fit), channels)
    except BadImage:
        raise
    except _DECODER_ERRORS as err:
        raise BadImage(f"cannot be decoded as {form}: {str(err) or type(err).__name__}") from err
    if not drafted:
        width, height = grey.size  # Pillow itself rotates a TIFF, before or while it loads it
    elif orientation in (5, 6, 7, 8):
        width, height = height, width
    return Radiograph(pixels, height, width, form, mode, tables.get(0, ()))


def _array(grey: Image.Image, channels: int) -> np.ndarray:
    pixels = np.array(grey)[..., np.newaxis]
    return pixels if channels == 1 else np.repeat(pixels, channels, axis=-1)


def _open(data: bytes) -> Image.Image:
    """Returns an image after reading only its header."""
    if not data:
        raise BadImage("empty file (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        frames = getattr(image, "n_frames", 1)  # reads the file up to the last frame
    except UnidentifiedImageError as err:
        raise BadImage(f"not an image in a known format ({', '.join(FORMATS)})") from err
    except Image.DecompressionBombError as err:
        raise BadImage(f"more than the {MAX_PIXELS:,} pixels allowed") from err
    except _DECODER_ERRORS as err:
        raise BadImage(f"unreadable header: {str(err) or type(err).__name__}") from err
    check_pixel_count(image.width, image.height, MAX_PIXELS)
    # An MPO file is a photograph in JPEG, followed by previews.
    if frames > 1 and image.format != "MPO":
        raise BadImage(f"{frames} frames; expected one image")
    return image


def _grey(image: Image.Image, data: bytes) -> Image.Image:
    """Returns the image in mode L, MONOCHROME2, with transparent parts black."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise BadImage(f"values {values.min()} to {values.max()}; expected 16 bits, 0 to 65535")
        bits = _depth(image, data, int(values.max()))
        # Pillow inverts MONOCHROME1 TIFFs of 8 bits only.
        if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:
            values = (1 << bits) - 1 - values
        upper = values >> bits - 8 if bits > 8 else values << 8 - bits
        grey = Image.fromarray(upper.astype(np.uint8))
        grey.info.update(image.info)
        return grey
    if image.mode == "F":
        raise BadImage("floating-point pixels of unknown range; save the image with 8 or 16 bits")
    _check_levels(image, data)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "black"), layer)
        image.info.update(layer.info)  # keeps the orientation
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        # Adobe stores CMYK inverted and marks it in a segment; Pillow inverts without that mark.
        image = ImageChops.invert(image)
    return image.convert("L")


def _check_levels(image: Image.Image, data: bytes) -> None:
    """Refuses 16-bit colour, or grey with alpha, that seems to hold unscaled 12-bit values.

    Pillow reads only the upper 8 bits of these samples, where such an image is nearly black.
    `_depth`, which detects the same in greyscale images, needs all bits.
    """
    declared = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
    if max((data[_PNG_DEPTH_AT],) if image.format == "PNG" else declared) < 16:
        return
    extrema: Any = image.getextrema()  # of each band
    bands = zip(image.getbands(), extrema, strict=True)
    if max(high for band, (_, high) in bands if band != "A") < 1 << DETECTOR_BITS - 8:
        raise BadImage(
            f"16-bit samples in mode {image.mode} that seem to be unscaled {DETECTOR_BITS}-bit "
            "values: only 16 grey levels would remain; save the image as 16-bit greyscale"
        )


def _depth(image: Image.Image, data: bytes, highest: int) -> int:
    """Returns how many bits span the range of a 16-bit greyscale image.

    A TIFF declares its bits per sample. A PNG should be scaled to 16 bits, whatever its sBIT chunk
    declares as significant; if no value exceeds those bits, it was not scaled. Without sBIT, and in
    a 16-bit TIFF, the same test is made with 12 bits, which detectors deliver: read as 16 bits,
    such an image would have at most 16 grey levels and be nearly black.
    """
    unscaled = DETECTOR_BITS
    if image.format == "TIFF":
        declared = image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0]  # type: ignore[attr-defined]
        if declared < 16:
            return declared
    elif image.format == "PNG":
        unscaled = _significant_bits(data) or DETECTOR_BITS
    else:  # Pillow scales PGM and JPEG 2000 by their declared depth
        return 16
    return unscaled if highest < 1 << unscaled else 16


def _significant_bits(png: bytes) -> int | None:
    """Returns the bits that the sBIT chunk of a greyscale PNG declares, 1 to 16, or None."""
    at = _PNG_SIGNATURE_BYTES
    while at + 8 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        if kind == b"sBIT" and length and at + 8 < len(png):
            return png[at + 8] if 1 <= png[at + 8] <= 16 else None
        if kind in (b"PLTE", b"IDAT"):
            return None
        at += length + 12
    return None


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
