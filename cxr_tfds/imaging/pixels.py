"""The one pixel function: encoded file to greyscale array, the same at build time and on the device.

Pillow and NumPy only. What a model was trained on is what it sees on the device, bit for bit,
because builders, the pipeline and `cxr-infer` all call `radiograph`.
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
from cxr_tfds.imaging.dicom import dicom_grey, is_dicom

FITS = ("stretch", "pad", "crop")
MAX_PIXELS = 100_000_000
MAX_SIZE = 4096

# Tried one by one on the content; naming them keeps Pillow from loading formats no radiograph comes in.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "GIF", "PPM", "WEBP", "JPEG2000")
# What files of these formats, and DICOM, are called: where nothing but a name tells a radiograph from other files.
SUFFIXES = frozenset({
    ".bmp", ".dcm", ".dicom", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pgm", ".png", ".pnm",
    ".ppm", ".tif", ".tiff", ".webp",
})  # fmt: skip
_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 turn the image by a quarter
_PHOTOMETRIC = 262  # TIFF tag; 0 is MONOCHROME1, white is zero
_BITS_PER_SAMPLE = 258  # TIFF tag
_DETECTOR_BITS = 12  # what radiography detectors give, and what is often stored unscaled in 16 bits
_PNG_SIGNATURE_BYTES = 8
_PNG_DEPTH_AT = 24  # of IHDR, which comes first
# What decoders raise on damaged bytes: Pillow promises OSError, and more comes through.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AttributeError,
    MemoryError,
    struct.error,
)
_ONE_IMAGE_OF_SEVERAL = ("MPO",)  # a JPEG whose first image is the photograph, the others previews


class Radiograph(NamedTuple):
    """A fitted image and what is known of its source."""

    pixels: np.ndarray  # uint8 (S, S, C), 0 to 255, MONOCHROME2: bone is bright
    height: int  # of the source, pixels, upright
    width: int
    form: str = ""  # how the source was stored: JPEG, PNG, ...
    mode: str = ""  # and in which colours: L, RGB, ..., as Pillow names them
    quantization: Sequence[int] = ()  # a JPEG's table for luminance, 64 values


def check_fit(size: int, channels: int, fit: str) -> None:
    """Raises:
    InputError: the size is not 1 to 4096, the channels are not 1 or 3, or the fit is unknown.
    """
    if not isinstance(size, Integral) or not 1 <= size <= MAX_SIZE:
        raise InputError(f"size={size!r}; expected a whole number of pixels, 1 to {MAX_SIZE}.")
    if not isinstance(channels, Integral) or channels not in (1, 3):
        raise InputError(
            f"channels={channels!r}; expected 1 (greyscale) or 3 (greyscale repeated)."
        )
    if fit not in FITS:
        raise InputError(f"fit={fit!r}; expected one of {', '.join(FITS)}.")


def radiograph(data: bytes, size: int, *, fit: str = "stretch", channels: int = 1) -> Radiograph:
    """Decodes an image file, makes it greyscale and fits it to `size` x `size`.

    Args:
      data: the file's bytes; the format is recognised by content, never by name.
      size: S, the side of the square in pixels.
      fit: "stretch" scales both sides to S; "pad" keeps the aspect and centres on black;
        "crop" keeps the aspect and cuts the centre. The default is "stretch": in the Kaggle
        pneumonia set the aspect differs by class, so padding would paint the label into the border.
      channels: 1, or 3 to repeat the grey value.

    Returns:
      `Radiograph`: pixels uint8 (S, S, channels), 0 to 255, and the upright size of the source.

    Raises:
      BadImage: the bytes are empty, no image, truncated, of no or more than 100 million pixels, or DICOM
        that cannot be read, see `cxr_tfds.imaging.dicom`.
      InputError: size, fit or channels are out of range.
    """
    check_fit(size, channels, fit)
    if is_dicom(data):
        shown = Image.fromarray(dicom_grey(data, MAX_PIXELS))
        return Radiograph(
            _array(_fit(shown.convert("L"), size, fit), channels),
            *shown.size[::-1],
            "DICOM",
            shown.mode,
        )
    image = _open(data)
    width, height = image.size
    form, mode, tables = image.format or "", image.mode, getattr(image, "quantization", {})
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        turned = orientation in (5, 6, 7, 8)
        # A JPEG is decoded at the smallest eighth that still covers S: several times faster, and the
        # inverse DCT at reduced size is an area average, so nothing aliases.
        drafted = image.draft("L", (size, size)) is not None
        if drafted:
            # In pieces of 64 KB, Pillow's default, it takes 1 % longer.
            image.decodermaxblock = len(data)  # type: ignore[attr-defined]
        plain = (
            drafted and image.mode == "L" and orientation == 1
        )  # each copy costs 3 % of the decoding
        grey = image if plain else ImageOps.exif_transpose(_grey(image, data))
        pixels = _array(_fit(grey, size, fit), channels)
    except BadImage:
        raise
    except _DECODER_ERRORS as err:
        raise BadImage(f"cannot be decoded as {image.format}: {_reason(err)}") from err
    if not drafted:
        width, height = grey.size  # Pillow turns a TIFF by itself, before or while it is loaded
    elif turned:
        width, height = height, width
    return Radiograph(pixels, height, width, form, mode, tables.get(0, ()))


def _array(fitted: Image.Image, channels: int) -> np.ndarray:
    """uint8 (S, S, channels) of a grey image."""
    grey = np.array(fitted)[..., np.newaxis]
    return grey if channels == 1 else np.repeat(grey, channels, axis=-1)


def _open(data: bytes) -> Image.Image:
    """Reads the header only."""
    if not data:
        raise BadImage("is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        frames = getattr(image, "n_frames", 1)  # reads on, to the last frame
    except UnidentifiedImageError as err:
        raise BadImage(f"is no image of a known format ({', '.join(FORMATS)})") from err
    except Image.DecompressionBombError as err:
        raise BadImage(f"has more than the {MAX_PIXELS:,} pixels allowed") from err
    except _DECODER_ERRORS as err:
        raise BadImage(f"has a header that cannot be read: {_reason(err)}") from err
    if image.width * image.height == 0:
        raise BadImage(f"has no pixels ({image.width} x {image.height})")
    if image.width * image.height > MAX_PIXELS:
        raise BadImage(
            f"has {image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are allowed"
        )
    if frames > 1 and image.format not in _ONE_IMAGE_OF_SEVERAL:
        raise BadImage(f"holds {frames} frames; expected one image")
    return image


def _grey(image: Image.Image, data: bytes) -> Image.Image:
    """Mode L; of 16-bit values the upper 8 of `_depth`, MONOCHROME1 is inverted, transparency lies on black."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise BadImage(
                f"has values {values.min()} to {values.max()}; expected 16 bit (0 to 65535)"
            )
        bits = _depth(image, data, int(values.max()))
        if (
            getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
        ):  # Pillow inverts such a TIFF at 8 bit only
            values = (1 << bits) - 1 - values
        grey = Image.fromarray(
            (values >> bits - 8 if bits > 8 else values << 8 - bits).astype(np.uint8)
        )
        grey.info.update(image.info)
        return grey
    if image.mode == "F":
        raise BadImage("holds floating-point pixels of unknown range; save it with 8 or 16 bit")
    _check_levels(image, data)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "black"), layer)
        image.info.update(layer.info)  # the orientation is among it
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        # Adobe stores CMYK inverted and says so in a segment of its own; Pillow inverts without looking for it.
        image = ImageChops.invert(image)
    return image.convert("L")


def _check_levels(image: Image.Image, data: bytes) -> None:
    """Refuses a colour image, or one with alpha, of 16-bit samples that are all but black in their upper 8 bits.

    Pillow reads no more of these, so the range of what was stored unscaled cannot be told as `_depth` does.
    """
    declared = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
    if max((data[_PNG_DEPTH_AT],) if image.format == "PNG" else declared) < 16:
        return
    extrema: Any = image.getextrema()  # of each band
    highest = max(
        high for band, (_, high) in zip(image.getbands(), extrema, strict=True) if band != "A"
    )
    if highest < 1 << _DETECTOR_BITS - 8:
        raise BadImage(
            f"has 16-bit samples in mode {image.mode}, whose upper 8 bits are read, and there at most 16 levels, as "
            "of 12-bit values stored unscaled; save it as 16-bit greyscale"
        )


def _depth(image: Image.Image, data: bytes, highest: int) -> int:
    """How many bits the range of a 16-bit greyscale image has: what its file declares, else 16 or 12.

    A TIFF declares its bits per sample. A PNG is scaled to 16 bits by its specification, whatever its sBIT
    chunk says was significant before; where no value passes that many bits, it was not. Without sBIT, and in a
    16-bit TIFF, the same goes for 12 bits: taken as 16 such an image would have 16 grey levels at most, all but
    black.
    """
    if image.format == "TIFF" and (declared := image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0]) < 16:  # type: ignore[attr-defined]
        return declared
    if image.format not in (
        "TIFF",
        "PNG",
    ):  # Pillow scales PGM and JPEG 2000 by the depth they declare
        return 16
    unscaled = (_significant_bits(data) if image.format == "PNG" else None) or _DETECTOR_BITS
    return unscaled if highest < 1 << unscaled else 16


def _significant_bits(png: bytes) -> int | None:
    """What the sBIT chunk of a greyscale PNG says, 1 to 16; None without one."""
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
    bilinear = Image.Resampling.BILINEAR  # Pillow's covers every source pixel when it reduces
    if fit == "pad":
        # Not `ImageOps.pad`: it fails where the short side would round to no pixel.
        inner = grey.resize(
            [max(1, round(size * side / max(grey.size))) for side in grey.size], bilinear
        )
        square = Image.new("L", (size, size))
        square.paste(inner, ((size - inner.width) // 2, (size - inner.height) // 2))
        return square
    if fit == "crop":
        return ImageOps.fit(grey, (size, size), bilinear)
    return grey.resize((size, size), bilinear)


def _reason(err: BaseException) -> str:
    return str(err) or type(err).__name__
