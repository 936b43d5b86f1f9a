"""PNG and TIFF files of more than 8 bits per sample, as Pillow opens them."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from PIL import Image

from cxr_tfds.errors import BadImage
from cxr_tfds.imaging.grey_levels import GreyLevels, robust_range
from cxr_tfds.limits import reserve_memory

DETECTOR_BITS = 12  # of radiography detectors, often stored unscaled in 16 bits
_PHOTOMETRIC = 262  # TIFF tag; 0 is MONOCHROME1 (white is zero)
_BITS_PER_SAMPLE = 258  # TIFF tag
_PNG_SIGNATURE_BYTES = 8
_PNG_DEPTH_AT = 24  # offset of the bit depth in a PNG file, which the colour type follows
_BYTES_PER_PIXEL = 12  # for the pixels of up to 4 bytes, and two copies
_LOWEST, _HIGHEST = -0x8000, 0xFFFF


def is_deep_png(head: bytes) -> bool:
    """Returns whether a PNG has 16-bit grey values, from its first 26 bytes."""
    return head[_PNG_DEPTH_AT : _PNG_DEPTH_AT + 2] == b"\x10\0"


def deep_grey(image: Image.Image, data: bytes, levels: GreyLevels) -> np.ndarray:
    """Returns an image of one of Pillow's modes I as uint8 (H, W), MONOCHROME2.

    A TIFF of 9 to 15 bits per sample keeps its upper 8. Pillow scales PGM and JPEG 2000 to 16 bits
    by the depth they declare. Other files follow `levels`; without a measured range, a PNG keeps
    the upper 8 of the bits in its sBIT chunk, see `measure_deep`.

    Raises:
      BadImage: Values exceed 16 bits or the setting `bits`, a window cannot be applied, or almost
        all grey levels would be lost.
    """
    values = _values(image)
    bits = _declared_bits(image)
    if bits is None and levels.measured is None and image.format == "PNG":
        bits = _bits_of_sbit(data, robust_range(values)[1])
    if values.min() < 0 and levels.window is levels.percentile is levels.measured is None:
        raise BadImage(f"values {values.min()} to {values.max()}; expected 0 to {_HIGHEST}")
    if levels.window is not None and image.format not in ("PNG", "TIFF"):
        raise BadImage(
            f"a window needs source values, which {image.format} files lose by scaling; save the "
            "image as PNG, TIFF or DICOM"
        )
    grey = levels.to_grey(values, bits)
    # Pillow inverts MONOCHROME1 TIFFs of 8 bits only.
    inverted = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
    return 255 - grey if inverted else grey


def measure_deep(image: Image.Image, data: bytes) -> tuple[float, float] | None:
    """Returns the robust range of an image, or None if it declares its range or has 8 bits.

    A PNG should be scaled to 16 bits, whatever its sBIT chunk declares as significant. If no value
    exceeds those bits, it was not scaled, and the bits are its range.

    Raises:
      BadImage: The image is corrupt or its values exceed 16 bits.
    """
    if not image.mode.startswith("I") or _declared_bits(image) is not None:
        return None
    try:
        with reserve_memory(*image.size, _BYTES_PER_PIXEL):
            low, high = robust_range(_values(image))
    except BadImage:
        raise
    except Exception as err:  # Pillow's decoders raise many kinds
        raise BadImage(f"cannot be decoded as {image.format}: {err}") from err
    bits = _bits_of_sbit(data, high) if image.format == "PNG" else None
    return low, high if bits is None else float((1 << bits) - 1)


def _bits_of_sbit(png: bytes, highest: float) -> int | None:
    bits = _significant_bits(png)
    return bits if bits is None or highest < 1 << bits else 16


def _values(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    if values.min() < _LOWEST or values.max() > _HIGHEST:
        raise BadImage(
            f"values {values.min()} to {values.max()}; expected 16 bits, {_LOWEST} to {_HIGHEST}"
        )
    return values


def _declared_bits(image: Image.Image) -> int | None:
    """Returns the bits per sample that an image declares and uses, or None.

    16 bits declare nothing: they are the smallest storage unit of values of more than 8 bits.
    """
    if image.format == "TIFF":
        declared = image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0]  # type: ignore[attr-defined]
        return declared if declared < 16 else None
    return None if image.format == "PNG" else 16


def check_colour(image: Image.Image, data: bytes) -> None:
    """Refuses 16-bit colour, or grey with alpha, that seems to hold unscaled 12-bit values.

    Pillow reads only the upper 8 bits of these samples, where such an image is nearly black.
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
