"""Opens image files: reads only the header, after checks that bound what decoding may take."""

from __future__ import annotations

import io
import struct

from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from cxr_tfds.errors import BadImage
from cxr_tfds.imaging.jpeg import MAX_EXIF_BYTES
from cxr_tfds.imaging.structure import check_structure
from cxr_tfds.limits import check_memory

# Pillow then loads no decoder for other formats.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "GIF", "PPM", "WEBP", "JPEG2000")
# Decoders of Pillow that radiographs need. Others, such as the run lengths of BMP, which allocate
# by what a file declares, are refused.
_DECODERS = ("raw", "zip", "jpeg", "jpeg2k", "libtiff", "gif", "ppm", "ppm_plain")
_SLOW_DECODERS = ("ppm", "ppm_plain")  # in Python
_MAX_SLOW_SAMPLES = 10_000_000
# Memory at the peak of decoding and converting, by Pillow's mode, measured. Most modes take 4 bytes
# for each pixel and are converted in strips.
_BYTES_PER_PIXEL = {"1": 4, "L": 4, "P": 4, "I;16": 12, "I;16B": 12, "I;16L": 12, "I": 20}
_OTHER_BYTES_PER_PIXEL = 10
_PROFILE = "Raw profile type exif"  # in PNG, in hexadecimal digits
_ORIENTATION = 0x0112  # EXIF tag; values 5 to 8 rotate by 90 degrees


def open_image(data: bytes) -> Image.Image:
    """Returns an image after reading only its header.

    Raises:
      BadImage: The file is not an image, or could not be decoded within the limits.
    """
    if not data:
        raise BadImage("empty file (0 bytes)")
    check_structure(data)
    try:
        image = _open_jpeg(data) if data.startswith(b"\xff\xd8\xff") else _open_any(data)
    except UnidentifiedImageError as err:
        raise BadImage(f"not an image in a known format ({', '.join(FORMATS)})") from err
    except Image.DecompressionBombError as err:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise BadImage(f"more than the {most:,} pixels that Pillow opens") from err
    except Exception as err:  # Pillow raises many kinds
        raise BadImage(f"unreadable header: {str(err) or type(err).__name__}") from err
    check_memory(*image.size, bytes_per_pixel(image))
    _check_decoders(image)
    return image


def _open_any(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=FORMATS)


def _open_jpeg(data: bytes) -> Image.Image:
    """Does what `Image.open` does, without loading the plugins of other formats (6 ms)."""
    try:
        image = JpegImagePlugin.jpeg_factory(io.BytesIO(data))
    except (SyntaxError, IndexError, TypeError, struct.error) as err:
        raise UnidentifiedImageError from err
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > 2 * most:
        raise Image.DecompressionBombError
    return image


def bytes_per_pixel(image: Image.Image) -> int:
    """Returns the memory that decoding and converting an image needs at its peak."""
    bands = len(image.getbands())
    by_format = {
        "JPEG": 2 * bands + 4,  # coefficients, which a progressive file needs
        "MPO": 2 * bands + 4,
        "JPEG2000": 8 * bands + 4,
        "WEBP": 28,
    }.get(image.format or "", 0)
    return max(by_format, _BYTES_PER_PIXEL.get(image.mode, _OTHER_BYTES_PER_PIXEL))


def _check_decoders(image: Image.Image) -> None:
    for decoder in {tile[0] for tile in image.tile}:  # type: ignore[attr-defined]
        if decoder not in _DECODERS:
            raise BadImage(
                f"{image.format} with the compression {decoder}, which no radiograph needs; save "
                "the image as PNG"
            )
        samples = image.width * image.height * len(image.getbands())
        if decoder in _SLOW_DECODERS and samples > _MAX_SLOW_SAMPLES:
            raise BadImage(
                f"{samples:,} samples of {image.format} as text, or with a maximum other than 255 "
                f"and 65535; expected at most {_MAX_SLOW_SAMPLES:,}. Save the image as PNG"
            )


def read_orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation of an image, 1 if it states none."""
    if image.format == "PNG":
        image.load()  # the EXIF data may follow the pixels
    for name, limit in (("exif", MAX_EXIF_BYTES), (_PROFILE, 3 * MAX_EXIF_BYTES)):
        if (size := len(image.info.get(name, b""))) > limit:
            raise BadImage(
                f"{size:,} bytes of EXIF; expected at most {limit:,}. Save the image without them"
            )
    return image.getexif().get(_ORIENTATION, 1)
