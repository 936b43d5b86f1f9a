"""Ranges of images of more than 8 bits, and the two senses of CMYK."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from helpers.sources import encode
from PIL import Image, ImageChops

from cxr_tfds.errors import BadImage
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.imaging.pixels import radiograph


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with_sbit(values: np.ndarray, bits: int) -> bytes:
    """Returns a 16-bit PNG that declares how many bits were significant before scaling."""
    data = encode(values, "PNG")
    return data[:33] + chunk(b"sBIT", bytes([bits])) + data[33:]  # after IHDR


def tiff_of_12_bit(values: np.ndarray) -> bytes:
    """Returns a TIFF with 12 bits per sample, two samples in three bytes."""
    height, width = values.shape
    packed = bytearray()
    for a, b in values.reshape(-1, 2).astype(int).tolist():
        packed += (a << 12 | b).to_bytes(3, "big")
    tags = [
        (256, width),
        (257, height),
        (258, 12),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height),
    ]
    tags.append((279, len(packed)))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(packed))
        + packed
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
    )


def png_of_16_bit(values: np.ndarray) -> bytes:
    """Returns a PNG of uint16 (H, W, C), 2 to 4 channels, which Pillow does not write."""
    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff_of_16_bit_colour(values: np.ndarray) -> bytes:
    """Returns a TIFF of uint16 (H, W, 3)."""
    height, width, _ = values.shape
    packed = struct.pack("<3H", 16, 16, 16) + values.astype("<u2").tobytes()
    tags = [
        (256, 1, width),
        (257, 1, height),
        (258, 3, 8),
        (259, 1, 1),
        (262, 1, 2),
        (273, 1, 14),
        (277, 1, 3),
    ]
    tags += [(278, 1, height), (279, 1, len(packed) - 6)]
    entries = b"".join(struct.pack("<HHII", tag, 3, count, value) for tag, count, value in tags)
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(packed))
        + packed
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
    )


TWELVE = np.array([[0, 15, 16, 1023], [1024, 2047, 2048, 4095]] * 2, np.uint16)
UPPER = TWELVE >> 4
CLIPPED = (TWELVE >> 3).clip(max=255)
STRETCHED = (TWELVE / 4095 * 255 + 0.5).astype(np.uint8)
# The window begins at 1023 and ends at 3071; a grey level is 8.03 values.
WINDOWED = np.array([[0, 0, 0, 0], [0, 127, 128, 255]] * 2)


TWELVE_BITS = {"measured": (0, 4095)}


@pytest.mark.parametrize(
    ("data", "levels", "expected"),
    [
        pytest.param(encode(TWELVE, "PNG"), TWELVE_BITS, UPPER, id="12 bit in 16, measured, PNG"),
        pytest.param(encode(TWELVE, "TIFF"), TWELVE_BITS, UPPER, id="and TIFF"),
        pytest.param(encode(TWELVE, "TIFF"), {"bits": 12}, UPPER, id="and given"),
        pytest.param(encode(TWELVE, "PNG"), {"measured": (0, 8191)}, UPPER >> 1, id="13 bits"),
        pytest.param(encode(TWELVE << 1, "PNG"), TWELVE_BITS, CLIPPED, id="beyond the range"),
        pytest.param(encode(TWELVE << 4, "PNG"), {}, UPPER, id="12 bit scaled to 16"),
        pytest.param(encode(TWELVE, "PNG"), {"bits": 16}, UPPER >> 4, id="16 bit given: dark"),
        pytest.param(png_with_sbit(TWELVE >> 2, 10), {}, UPPER, id="10 bit declared, unscaled"),
        pytest.param(
            png_with_sbit(TWELVE >> 2, 10), {"bits": 16}, UPPER, id="declared comes before given"
        ),
        pytest.param(
            png_with_sbit(TWELVE, 10), TWELVE_BITS, UPPER, id="measured comes before declared"
        ),
        pytest.param(png_with_sbit(TWELVE << 2, 14), {}, UPPER, id="14 bit declared, unscaled"),
        pytest.param(png_with_sbit(TWELVE << 4, 12), {}, UPPER, id="12 bit declared and scaled"),
        pytest.param(
            png_with_sbit(TWELVE >> 4, 16), {}, TWELVE >> 12, id="16 bit declared: dark as it says"
        ),
        pytest.param(png_with_sbit(TWELVE >> 8, 4), {}, UPPER & 0xF0, id="4 bit declared"),
        pytest.param(tiff_of_12_bit(TWELVE), {}, UPPER, id="TIFF of 12 bits per sample"),
        pytest.param(tiff_of_12_bit(TWELVE >> 4), {}, UPPER >> 4, id="and dark"),
        pytest.param(
            tiff_of_12_bit(TWELVE), {"measured": (0, 65535)}, UPPER, id="declared, not measured"
        ),
        pytest.param(
            encode(TWELVE.astype(np.int32) - 1024, "TIFF"),
            {"measured": (-1024, 3071)},
            UPPER,
            id="Hounsfield units in a TIFF",
        ),
        pytest.param(
            encode(TWELVE, "PNG"), {"window": (2048, 2049)}, WINDOWED, id="window, as in DICOM"
        ),
        pytest.param(encode(TWELVE, "PNG"), {"percentile": (0, 100)}, STRETCHED, id="percentile"),
    ],
)
def test_range_of_more_than_eight_bits(
    data: bytes, levels: dict[str, Any], expected: np.ndarray
) -> None:
    image = radiograph(data, 4, levels=GreyLevels(**levels))
    np.testing.assert_array_equal(image.pixels[..., 0], expected)


RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


@pytest.mark.parametrize(
    ("data", "levels", "reason"),
    [
        pytest.param(
            encode(RAMP, "PNG"),
            {},
            "^no declared range, and values 0 to 4095 of 16 bits would become 16 of 256 grey",
            id="unscaled, of unknown range",
        ),
        pytest.param(
            encode(RAMP, "TIFF"), {"bits": 10}, "^values up to 4094, but bits=10 .*set bits to 12",
            id="more bits than given",
        ),
        pytest.param(
            encode(RAMP.astype(np.uint8), "PNG"), {"window": (0, 9)},
            "^an image of 8 bits, but the window ", id="window on 8 bits",
        ),
        pytest.param(
            encode(RAMP.astype(np.uint8), "JPEG"), {"window": "lung"},
            "^an image of 8 bits, but the window ", id="window on a JPEG",
        ),
        pytest.param(
            encode(RAMP, "PPM"), {"window": "lung"}, "^a window needs source values, which PPM",
            id="window on a scaled format",
        ),
    ],
)  # fmt: skip
def test_right_or_an_error(data: bytes, levels: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        radiograph(data, 16, levels=GreyLevels(**levels))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_images_of_eight_bits_ignore_range_and_bits(form: str) -> None:
    data = encode(RAMP.astype(np.uint8), form)
    expected = radiograph(data, 16).pixels
    for levels in ({"bits": 12}, {"measured": (0, 99)}):
        pixels = radiograph(data, 16, levels=GreyLevels(**levels)).pixels
        np.testing.assert_array_equal(pixels, expected)


def test_percentile_stretches_images_of_eight_bits() -> None:
    values = np.array([[50, 60], [70, 100]], np.uint8)
    image = radiograph(encode(values, "PNG"), 2, levels=GreyLevels(percentile=(0, 100)))
    assert image.pixels[..., 0].tolist() == [[0, 51], [102, 255]]


def test_counts_levels_before_fitting() -> None:
    data = encode((RAMP // 1024 * 60).astype(np.uint8), "PNG")
    image = radiograph(data, 50, count_levels=True)
    assert image.grey_levels == 4
    assert len(np.unique(image.pixels)) > 4
    assert radiograph(data, 50).grey_levels is None


def in_colour(values: np.ndarray, channels: int) -> np.ndarray:
    """(H, W, `channels`), opaque where there are two or four."""
    colours = np.repeat(values[..., np.newaxis], channels, axis=-1)
    if channels in (2, 4):
        colours[..., -1] = 0xFFFF
    return colours


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bit_colours_keep_the_upper_byte_or_are_refused(channels: int) -> None:
    writers = [png_of_16_bit, tiff_of_16_bit_colour] if channels == 3 else [png_of_16_bit]
    for write in writers:
        for scaled in (TWELVE << 4, TWELVE + 1):  # the second: 17 levels, as dark as it says
            image = radiograph(write(in_colour(scaled, channels)), 4)
            np.testing.assert_array_equal(image.pixels[..., 0], scaled >> 8)
        with pytest.raises(
            BadImage,
            match=r"^16-bit samples in mode .* only 16 grey levels would remain; save the image",
        ):
            radiograph(write(in_colour(TWELVE, channels)), 4)


def test_cmyk_with_and_without_adobe_segment() -> None:
    grey = np.add.outer(np.arange(32) * 4, np.arange(32) * 3).astype(np.uint8)
    cmyk = Image.fromarray(grey).convert("RGB").convert("CMYK")
    by_adobe = encode(cmyk, "JPEG", quality=95)
    inverted = encode(
        ImageChops.invert(cmyk), "JPEG", quality=95
    )  # Adobe's sense, twice: the plain values
    at = inverted.index(b"\xff\xee")
    assert inverted[at + 4 : at + 9] == b"Adobe"
    (length,) = struct.unpack_from(">H", inverted, at + 2)
    plain = inverted[:at] + inverted[at + 2 + length :]
    for data in (by_adobe, plain):
        assert np.abs(radiograph(data, 32).pixels[..., 0].astype(int) - grey).max() <= 3
