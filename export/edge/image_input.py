"""Images as Python programs hold them, turned into the files that the pixel function decodes."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from os import PathLike
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageFile, ImageOps

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.regular_files import read_regular_file

from .input_files import read_named_file

ImageInput: TypeAlias = "str | PathLike[str] | bytes | Image.Image | np.ndarray"
_ARRAYS = (
    "uint8 (0 to 255) or uint16 (0 to 65535), of shape (height, width), (height, width, 1) or "
    "(height, width, 3)"
)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _COLOUR = 0, 2  # colour types of PNG
_PILLOW_LOCK = threading.Lock()  # a list may hold an image twice, and threads decode it


def read_image(image: ImageInput) -> tuple[bytes, str | None]:
    """Returns the contents of an image file, and its name if it has one.

    Args:
      image: A path, or the contents of a file. A Pillow image is the file that it was opened from;
        if that is not known or its pixels were changed, it is a file of its pixels. A NumPy array,
        uint8 or uint16, (H, W), (H, W, 1) or (H, W, 3), is a PNG file of its values; bone is bright
        (MONOCHROME2).

    Raises:
      MissingData: The file does not exist.
      InputError: The file cannot be read, or `image` is none of these.
      BadImage: The pixels of a Pillow image cannot be read.
    """
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image), None
    if isinstance(image, np.ndarray):
        return encode_array(image), None
    if isinstance(image, Image.Image):
        with _PILLOW_LOCK:
            return _encode_pillow(image), None
    if isinstance(image, (str, PathLike)):
        return read_named_file(image, "an image file"), str(image)
    raise InputError(
        f"an image of type {type(image).__name__}; expected a path, the bytes of a file, a Pillow "
        f"image, or a NumPy array of {_ARRAYS}. Convert it with numpy.asarray."
    )


def encode_array(array: np.ndarray) -> bytes:
    """Returns an array as an uncompressed PNG file, or raises InputError if it is not an image."""
    height, width, channels = (*array.shape, 1)[:3] if array.ndim in (2, 3) else (0, 0, 0)
    if array.dtype not in (np.uint8, np.uint16) or channels not in (1, 3) or not height * width:
        raise InputError(
            f"an array of {array.dtype} {array.shape}; expected {_ARRAYS}.{_advise(array)}"
        )
    # Pillow writes no 16-bit colour, and takes 20 times longer for an uncompressed PNG.
    rows = array.astype(array.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    unfiltered = np.pad(rows, ((0, 0), (1, 0)))  # a row begins with the number of its filter, 0
    kind = _GREY if channels == 1 else _COLOUR
    header = struct.pack(">IIBBBBB", width, height, 8 * array.itemsize, kind, 0, 0, 0)
    content = zlib.compress(unfiltered.tobytes(), 0)
    chunks = (b"IHDR", header), (b"IDAT", content), (b"IEND", b"")
    return _PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def _advise(array: np.ndarray) -> str:
    if array.ndim == 4:
        return " Give several images as a list: list(images)."
    if array.dtype.kind == "f":
        return " Scale the values to 0 to 255 and convert them with: image.astype('uint8')"
    return ""


def _encode_pillow(image: Image.Image) -> bytes:
    """Returns the file that an image was opened from, or its pixels as a TIFF file.

    Only the file states the bits, the photometric interpretation and, of a JPEG, how it is decoded
    at a reduced size.
    """
    try:
        if isinstance(image, ImageFile.ImageFile) and (data := _file_of(image)):
            return data
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:  # TIFF has no transparent colour
            image = image.convert("RGBA")
        elif image.mode in ("HSV", "YCbCr"):
            image = image.convert("RGB")
        buffer = io.BytesIO()
        image.save(buffer, "TIFF", compression="raw")  # PNG has no CMYK, and is slower
    except Exception as err:  # Pillow's decoders raise many kinds
        raise BadImage(f"a Pillow image of mode {image.mode} cannot be read: {err}") from err
    return buffer.getvalue()


def _file_of(image: ImageFile.ImageFile) -> bytes | None:
    """Returns the contents of the file that an image shows, or None if it is not known."""
    # One of several frames is the one that its owner chose. MPO is a photograph with previews.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        return None
    if image.tile and image.fp:  # no pixel was decoded yet
        position = image.fp.tell()
        image.fp.seek(0)
        data = image.fp.read()
        image.fp.seek(position)
        return data
    try:
        data = read_regular_file(os.fsdecode(image.filename))
    except (OSError, BadImage):
        return None
    with Image.open(io.BytesIO(data)) as unchanged:
        is_shown = unchanged.size == image.size and unchanged.mode == image.mode
        return data if is_shown and unchanged.tobytes() == image.tobytes() else None
