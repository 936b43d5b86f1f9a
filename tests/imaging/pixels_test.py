"""The one pixel function: formats, numbers worked by hand, and what it refuses."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from helpers.sources import encode
from PIL import Image, TiffImagePlugin

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.imaging import pixels
from cxr_tfds.imaging.pixels import FITS, radiograph

# A grey ramp, wider than high, that survives lossy formats: each pixel differs little from its neighbours.
RAMP = np.add.outer(np.arange(24) * 4, np.arange(40) * 3).astype(np.uint8)
GREY = Image.fromarray(RAMP)
RGB = Image.merge("RGB", [GREY] * 3)
BLOCKS = np.array(
    [[0, 40, 80, 120], [20, 60, 100, 140], [200, 200, 8, 8], [200, 200, 8, 8]], np.uint8
)


def png_header(width: int, height: int) -> bytes:
    """A PNG that ends where its pixels begin."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + body
        + struct.pack(">I", zlib.crc32(body))
        + b"\0\0\1\0IDAT"
    )


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def unchanged(data: bytes) -> np.ndarray:
    """(40, 40): the ramp stretched to 40 x 40."""
    return radiograph(data, 40).pixels[..., 0].astype(int)


STRETCHED = np.asarray(GREY.resize((40, 40), Image.Resampling.BILINEAR)).astype(int)


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        pytest.param(encode(GREY, "JPEG", quality=95), 2, id="jpeg grey"),
        pytest.param(encode(RGB, "JPEG", quality=95), 2, id="jpeg rgb"),
        pytest.param(
            encode(RGB, "JPEG", quality=95, keep_rgb=True), 2, id="jpeg stored as rgb, not ycc"
        ),
        pytest.param(encode(GREY, "JPEG", quality=95, progressive=True), 2, id="jpeg progressive"),
        pytest.param(encode(RGB.convert("CMYK"), "JPEG", quality=95), 3, id="jpeg cmyk"),
        pytest.param(encode(GREY, "PNG"), 0, id="png grey"),
        pytest.param(encode(RGB, "PNG"), 0, id="png rgb"),
        pytest.param(encode(RGB.convert("RGBA"), "PNG"), 0, id="png rgba"),
        pytest.param(encode(GREY.convert("LA"), "PNG"), 0, id="png grey with alpha"),
        pytest.param(encode(GREY.quantize(256), "PNG"), 8, id="png palette"),
        pytest.param(encode(RAMP.astype(np.uint16) * 257, "PNG"), 0, id="png 16 bit"),
        pytest.param(encode(GREY, "BMP"), 0, id="bmp grey"),
        pytest.param(encode(RGB, "BMP"), 0, id="bmp rgb"),
        pytest.param(encode(GREY, "TIFF"), 0, id="tiff"),
        pytest.param(encode(RGB, "TIFF", compression="tiff_lzw"), 0, id="tiff lzw"),
        pytest.param(encode(RAMP.astype(np.uint16) * 257, "TIFF"), 0, id="tiff 16 bit"),
        pytest.param(encode(RAMP.astype(np.int32) * 257, "TIFF"), 0, id="tiff 32 bit within 16"),
        pytest.param(encode(GREY, "GIF"), 0, id="gif, one frame"),
        pytest.param(encode(GREY, "WEBP", lossless=True), 0, id="webp"),
        pytest.param(encode(GREY, "PPM"), 0, id="pgm"),
        pytest.param(encode(GREY, "JPEG2000"), 0, id="jpeg 2000"),
        pytest.param(
            encode(GREY, "MPO", save_all=True, append_images=[RGB], quality=95),
            2,
            id="mpo: first image",
        ),
    ],
)
def test_formats_are_known_by_content(data: bytes, tolerance: int) -> None:
    answer = radiograph(data, 40)
    assert (answer.height, answer.width) == (24, 40)
    assert np.abs(unchanged(data) - STRETCHED).max() <= tolerance


def test_one_bit_is_black_and_white() -> None:
    answer = radiograph(encode(Image.fromarray(BLOCKS > 99), "PNG"), 4)
    np.testing.assert_array_equal(answer.pixels[..., 0], (BLOCKS > 99) * 255)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_values_keep_their_upper_byte(form: str) -> None:
    values = np.array([[0, 255, 256, 511], [512, 0x1234, 0x7FFF, 0x8000]] * 2, np.uint16)
    answer = radiograph(encode(np.concatenate([values, values + 0x7F00]), form), 4, fit="crop")
    np.testing.assert_array_equal(
        answer.pixels[..., 0], np.concatenate([values, values + 0x7F00])[2:6] >> 8
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_with_white_as_zero_is_inverted(dtype: type) -> None:
    stored = BLOCKS.astype(dtype) * (1 if dtype == np.uint8 else 257)
    data = bytearray(encode(stored, "TIFF"))
    photometric = struct.pack("<HHII", 262, 3, 1, 1)  # tag, SHORT, one value, 1: black is zero
    at = data.index(photometric)
    data[at + 8] = 0
    np.testing.assert_array_equal(radiograph(bytes(data), 4).pixels[..., 0], 255 - BLOCKS)


def test_what_is_transparent_lies_on_black() -> None:
    half = np.zeros((4, 4), np.uint8)
    half[:, 2:] = 255  # the right half is opaque
    white = Image.new("L", (4, 4), 200)
    expected = np.where(half == 255, 200, 0)
    rgba = Image.merge("RGBA", [white] * 3 + [Image.fromarray(half)])
    grey = Image.merge("LA", [white, Image.fromarray(half)])
    palette = Image.fromarray(
        (half == 0).astype(np.uint8), "P"
    )  # 0 is grey, 1 is transparent white
    palette.putpalette([200] * 3 + [255] * 3)
    for data in (encode(rgba, "PNG"), encode(grey, "PNG"), encode(palette, "PNG", transparency=1)):
        np.testing.assert_array_equal(radiograph(data, 4).pixels[..., 0], expected)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(form: str, orientation: int) -> None:
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).T,
        8: np.rot90,
    }
    answer = radiograph(encode(GREY, form, exif=oriented(orientation), quality=95), 24, fit="crop")
    upright = turns[orientation](RAMP)
    assert (answer.height, answer.width) == upright.shape
    cut = upright[:, 8:32] if upright.shape[1] > 24 else upright[8:32]
    assert np.abs(answer.pixels[..., 0].astype(int) - cut).max() <= 6


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        ("PNG", "RGBA"),
        ("PNG", "LA"),
        ("PNG", "P"),
        ("TIFF", "RGBA"),
        ("TIFF", "LA"),
        ("WEBP", "RGBA"),
    ],
)
def test_exif_orientation_beside_transparency_is_applied_once(form: str, mode: str) -> None:
    options = {"transparency": 255} if mode == "P" else {}
    opaque = GREY.quantize(64) if mode == "P" else GREY.convert(mode)
    answer = radiograph(
        encode(opaque, form, exif=oriented(6), lossless=True, **options), 24, fit="crop"
    )
    assert (answer.height, answer.width) == (40, 24)
    assert np.abs(answer.pixels[..., 0].astype(int) - np.rot90(RAMP, -1)[8:32]).max() <= 8


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_exif_orientation_of_sixteen_bit_is_applied(form: str) -> None:
    answer = radiograph(
        encode(BLOCKS[:2].astype(np.uint16) << 8, form, exif=oriented(6)), 4, fit="stretch"
    )
    assert (answer.height, answer.width) == (4, 2)
    np.testing.assert_array_equal(
        answer.pixels[:, 0, 0], BLOCKS[1]
    )  # the lower row comes to the left


# Bilinear with support covering the source: a reduction by 2 weighs four source pixels 1 3 3 1 and, at
# the border, the three that exist 3 3 1.
WEIGHTS = np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7


@pytest.mark.parametrize(
    ("fit", "shape", "expected"),
    [
        ("stretch", (4, 4), WEIGHTS @ BLOCKS @ WEIGHTS.T),
        ("pad", (4, 4), WEIGHTS @ BLOCKS @ WEIGHTS.T),  # already square
        ("crop", (4, 4), WEIGHTS @ BLOCKS @ WEIGHTS.T),
        ("stretch", (2, 4), BLOCKS[:2] @ WEIGHTS.T),
        (
            "pad",
            (2, 4),
            np.stack([BLOCKS[:2].mean(0) @ WEIGHTS.T, [0, 0]]),
        ),  # one row; the odd row lies below
        ("crop", (2, 4), BLOCKS[:2, 1:3]),
        ("crop", (4, 2), BLOCKS[1:3, :2]),
        ("pad", (4, 2), np.stack([WEIGHTS @ BLOCKS[:, :2].mean(1), [0, 0]], axis=1)),
    ],
)
def test_numbers_by_hand(fit: str, shape: tuple[int, int], expected: np.ndarray) -> None:
    source = BLOCKS[: shape[0], : shape[1]]
    answer = radiograph(encode(source, "PNG"), 2, fit=fit)
    assert (answer.height, answer.width) == shape
    assert np.abs(answer.pixels[..., 0] - expected).max() <= 1  # Pillow rounds after each direction


def test_pad_is_centred_on_black() -> None:
    answer = radiograph(encode(np.full((2, 4), 99, np.uint8), "PNG"), 8, fit="pad").pixels[..., 0]
    np.testing.assert_array_equal(
        answer, np.repeat([0, 99, 99, 0], 2)[:, np.newaxis] * np.ones(8, int)
    )


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [1, 7, 224])
def test_shape_dtype_and_layout(fit: str, channels: int, size: int) -> None:
    answer = radiograph(encode(RGB, "JPEG"), size, fit=fit, channels=channels)
    assert answer.pixels.shape == (size, size, channels)
    assert answer.pixels.dtype == np.uint8
    assert answer.pixels.flags["C_CONTIGUOUS"]
    assert answer.pixels.flags["WRITEABLE"]
    for channel in range(channels):
        np.testing.assert_array_equal(answer.pixels[..., channel], answer.pixels[..., 0])


def test_reduced_decoding_of_a_large_jpeg_stays_true() -> None:
    large = GREY.resize((1600, 960), Image.Resampling.BILINEAR)
    data = encode(large, "JPEG", quality=95, exif=oriented(6))
    answer = radiograph(data, 64)
    assert (answer.height, answer.width) == (
        1600,
        960,
    )  # of the source, not of the reduced decoding
    wanted = np.asarray(
        large.transpose(Image.Transpose.ROTATE_270).resize((64, 64), Image.Resampling.BILINEAR)
    )
    assert np.abs(answer.pixels[..., 0].astype(int) - wanted).max() <= 3


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1), (1, 1)])
def test_extreme_shapes_have_an_answer(fit: str, form: str, shape: tuple[int, int]) -> None:
    answer = radiograph(encode(np.full(shape, 77, np.uint8), form), 64, fit=fit)
    assert (answer.height, answer.width) == shape
    assert set(np.unique(answer.pixels)) <= {0, 77}
    assert 77 in answer.pixels


def test_threads_agree() -> None:
    rng = np.random.default_rng(3)
    files = [
        encode(rng.integers(0, 256, (90, 120), dtype=np.uint8), form)
        for form in ("JPEG", "PNG", "TIFF") * 8
    ]
    alone = [radiograph(data, 32).pixels for data in files]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda data: radiograph(data, 32).pixels, files))
    np.testing.assert_array_equal(alone, together)


NOISE = np.random.default_rng(1).integers(0, 256, RAMP.shape, dtype=np.uint8)
JPEG, PNG = encode(NOISE, "JPEG"), encode(RGB, "PNG", compress_level=0)
FRAMES = {"save_all": True, "append_images": [GREY.rotate(90)]}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", r"^empty file \(0 bytes\)$", id="empty"),
        pytest.param(b"patient;finding\n1;normal\n", "^not an image in a known format", id="text"),
        pytest.param(b"%PDF-1.7\n" + bytes(200), "^not an image in a known format", id="pdf"),
        pytest.param(b"\xff\xd8\xff", "^not an image in a known format", id="jpeg, 3 bytes"),
        pytest.param(
            JPEG[: len(JPEG) * 2 // 3], "^cannot be decoded as JPEG: .*truncated", id="jpeg, half"
        ),
        pytest.param(
            JPEG[:-30], "^cannot be decoded as JPEG: .*truncated", id="jpeg, without its end"
        ),
        pytest.param(
            PNG[: len(PNG) // 2], "^cannot be decoded as PNG: .*truncated", id="png, half"
        ),
        pytest.param(png_header(8, 8), "^cannot be decoded as PNG: ", id="png, header only"),
        pytest.param(
            encode(GREY, "TIFF")[:300],
            "^(cannot be decoded|not an image|unreadable header)",
            id="tiff, start",
        ),
        pytest.param(
            png_header(0, 8), r"^0 x 8 pixels; expected at least 1|^not an image", id="no width"
        ),
        pytest.param(
            png_header(8, 0), r"^8 x 0 pixels; expected at least 1|^not an image", id="no height"
        ),
        pytest.param(
            b"P5 10000 10001 255\n",
            "^10000 x 10001 pixels; expected .* at most 100,000,000",
            id="100 million",
        ),
        pytest.param(
            png_header(2**31 - 1, 2**31 - 1), "^more than the 100,000,000 pixels", id="bomb"
        ),
        pytest.param(
            encode(GREY, "GIF", **FRAMES), "^2 frames; expected one image", id="gif, animated"
        ),
        pytest.param(encode(GREY, "PNG", **FRAMES), "^2 frames", id="png, animated"),
        pytest.param(encode(GREY, "WEBP", **FRAMES), "^2 frames", id="webp, animated"),
        pytest.param(encode(GREY, "TIFF", **FRAMES), "^2 frames", id="tiff, two pages"),
        pytest.param(
            encode(RAMP.astype(np.float32), "TIFF"),
            "^floating-point pixels",
            id="tiff, float",
        ),
        pytest.param(
            encode(RAMP.astype(np.int32) * 999, "TIFF"),
            r"^values 0 to \d+; expected 16",
            id="32 bit",
        ),
        pytest.param(encode(RAMP.astype(np.int32) - 5, "TIFF"), "^values -5 to", id="negative"),
    ],
)
@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
def test_refused(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        radiograph(data, 32)


def test_the_pixel_limit_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "MAX_PIXELS", RAMP.size)
    radiograph(PNG, 8)
    with pytest.raises(BadImage, match=r"^41 x 24 pixels; expected at least 1 and at most 960$"):
        radiograph(encode(np.zeros((24, 41), np.uint8), "PNG"), 8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size=0; expected a whole number of pixels, 1 to 4096"),
        ({"size": -1}, "size=-1"),
        ({"size": 4097}, "size=4097"),
        ({"size": "224"}, "size='224'"),  # from a JSON config
        ({"size": 224.0}, r"size=224\.0"),
        ({"size": None}, "size=None"),
        ({"size": 8, "channels": 2}, r"channels=2; expected 1 \(greyscale\) or 3"),
        ({"size": 8, "channels": "3"}, "channels='3'"),
        ({"size": 8, "channels": 1.0}, r"channels=1\.0"),
        ({"size": 8, "fit": "Stretch"}, "fit='Stretch'; expected one of stretch, pad, crop"),
        ({"size": 8, "fit": None}, "fit=None"),
    ],
)
def test_wrong_settings_are_no_fault_of_the_image(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        radiograph(b"", **settings)
    assert not isinstance(caught.value, BadImage)


def test_numpy_numbers_are_sizes() -> None:
    assert radiograph(PNG, np.int32(8), channels=np.int64(3)).pixels.shape == (8, 8, 3)  # type: ignore[arg-type]


SEEDS = {
    "jpeg": JPEG,
    "progressive": encode(GREY, "JPEG", progressive=True, exif=oriented(6)),
    "cmyk": encode(RGB.convert("CMYK"), "JPEG"),
    "png": encode(RGB, "PNG", exif=oriented(6)),
    "palette": encode(GREY.quantize(8), "PNG", transparency=0),
    "bmp": encode(RGB, "BMP"),
    "tiff": encode(GREY, "TIFF"),
    "tiff 16 bit": encode(RAMP.astype(np.uint16), "TIFF", exif=oriented(6)),
    "tiff pages": encode(GREY, "TIFF", **FRAMES),
    "gif frames": encode(GREY, "GIF", **FRAMES),
    "webp": encode(GREY, "WEBP"),
    "jpeg 2000": encode(GREY, "JPEG2000"),
    "pgm": encode(GREY, "PPM"),
}


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged metadata
@pytest.mark.parametrize("form", SEEDS)
def test_damaged_files_end_in_bad_image_or_an_answer(form: str) -> None:
    rng = np.random.default_rng(len(form))
    seed = SEEDS[form]
    damaged = [seed[:cut] for cut in rng.integers(1, len(seed), 20)]
    for _ in range(120):
        changed = bytearray(seed)
        for place in rng.integers(0, min(len(seed), 400), rng.integers(1, 6)):
            changed[place] = rng.integers(256)
        damaged.append(bytes(changed))
    for number, data in enumerate(damaged):
        try:
            answer = radiograph(data, 16, fit=FITS[number % 3])
        except BadImage as err:
            assert str(err)  # noqa: PT017 (an answer is as good)
        else:
            assert answer.pixels.shape == (16, 16, 1)


@pytest.mark.filterwarnings("ignore")
def test_random_bytes_are_refused() -> None:
    rng = np.random.default_rng(0)
    starts = [
        b"",
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"GIF89a",
        b"P5 ",
        b"RIFF",
    ]
    for start in starts:
        for length in (1, 10, 100, 1000):
            with pytest.raises(BadImage):
                radiograph(start + rng.bytes(length), 16)


def test_looping_tiff_directories_end() -> None:
    data = bytearray(encode(GREY, "TIFF"))
    (directory,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, directory)
    struct.pack_into(
        "<I", data, directory + 2 + 12 * entries, directory
    )  # the next directory is this one
    radiograph(bytes(data), 16)


def test_tiff_tags_are_where_these_tests_think() -> None:
    assert TiffImagePlugin.PHOTOMETRIC_INTERPRETATION == pixels._PHOTOMETRIC
