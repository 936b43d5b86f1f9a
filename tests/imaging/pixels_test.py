"""`radiograph`: formats, numbers worked by hand, and refused files."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.sources import encode
from PIL import Image, TiffImagePlugin

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.imaging import deep_pixels
from cxr_tfds.imaging.pixels import FITS, Radiograph, decode, radiograph
from cxr_tfds.limits import MAX_IMAGE_MB

# A smooth ramp, wider than high, that survives lossy formats.
RAMP = np.add.outer(np.arange(24) * 4, np.arange(40) * 3).astype(np.uint8)
GREY = Image.fromarray(RAMP)
RGB = Image.merge("RGB", [GREY] * 3)
BLOCKS = np.array(
    [[0, 40, 80, 120], [20, 60, 100, 140], [200, 200, 8, 8], [200, 200, 8, 8]], np.uint8
)


def png_header(width: int, height: int) -> bytes:
    """Returns a PNG that ends where its pixels begin."""
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


def stretch(data: bytes) -> np.ndarray:
    """Returns the image stretched to (40, 40)."""
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
def test_recognises_formats_by_content(data: bytes, tolerance: int) -> None:
    image = radiograph(data, 40)
    assert (image.height, image.width) == (24, 40)
    assert np.abs(stretch(data) - STRETCHED).max() <= tolerance


def test_one_bit_becomes_black_and_white() -> None:
    image = radiograph(encode(Image.fromarray(BLOCKS > 99), "PNG"), 4)
    np.testing.assert_array_equal(image.pixels[..., 0], (BLOCKS > 99) * 255)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_values_keep_their_upper_byte(form: str) -> None:
    values = np.array([[0, 255, 256, 511], [512, 0x1234, 0x7FFF, 0x8000]] * 2, np.uint16)
    image = radiograph(encode(np.concatenate([values, values + 0x7F00]), form), 4, fit="crop")
    np.testing.assert_array_equal(
        image.pixels[..., 0], np.concatenate([values, values + 0x7F00])[2:6] >> 8
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_with_white_as_zero_is_inverted(dtype: type) -> None:
    stored = BLOCKS.astype(dtype) * (1 if dtype == np.uint8 else 257)
    data = bytearray(encode(stored, "TIFF"))
    photometric = struct.pack("<HHII", 262, 3, 1, 1)  # tag, SHORT, one value, 1: black is zero
    at = data.index(photometric)
    data[at + 8] = 0
    np.testing.assert_array_equal(radiograph(bytes(data), 4).pixels[..., 0], 255 - BLOCKS)


def test_transparent_parts_become_black() -> None:
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
    image = radiograph(encode(GREY, form, exif=oriented(orientation), quality=95), 24, fit="crop")
    upright = turns[orientation](RAMP)
    assert (image.height, image.width) == upright.shape
    cut = upright[:, 8:32] if upright.shape[1] > 24 else upright[8:32]
    assert np.abs(image.pixels[..., 0].astype(int) - cut).max() <= 6


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
def test_exif_orientation_with_transparency_is_applied_once(form: str, mode: str) -> None:
    options = {"transparency": 255} if mode == "P" else {}
    opaque = GREY.quantize(64) if mode == "P" else GREY.convert(mode)
    image = radiograph(
        encode(opaque, form, exif=oriented(6), lossless=True, **options), 24, fit="crop"
    )
    assert (image.height, image.width) == (40, 24)
    assert np.abs(image.pixels[..., 0].astype(int) - np.rot90(RAMP, -1)[8:32]).max() <= 8


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_exif_orientation_of_sixteen_bit_is_applied(form: str) -> None:
    image = radiograph(
        encode(BLOCKS[:2].astype(np.uint16) << 8, form, exif=oriented(6)), 4, fit="stretch"
    )
    assert (image.height, image.width) == (4, 2)
    np.testing.assert_array_equal(
        image.pixels[:, 0, 0], BLOCKS[1]
    )  # the lower row becomes the left column


# Bilinear with antialiasing: a reduction by 2 weighs four source pixels 1 3 3 1 and, at the
# border, the three that exist 3 3 1.
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
        ),  # one row; the odd row is below
        ("crop", (2, 4), BLOCKS[:2, 1:3]),
        ("crop", (4, 2), BLOCKS[1:3, :2]),
        ("pad", (4, 2), np.stack([WEIGHTS @ BLOCKS[:, :2].mean(1), [0, 0]], axis=1)),
    ],
)
def test_numbers_by_hand(fit: str, shape: tuple[int, int], expected: np.ndarray) -> None:
    source = BLOCKS[: shape[0], : shape[1]]
    image = radiograph(encode(source, "PNG"), 2, fit=fit)
    assert (image.height, image.width) == shape
    assert np.abs(image.pixels[..., 0] - expected).max() <= 1  # Pillow rounds after each direction


def test_pad_centres_on_black() -> None:
    image = radiograph(encode(np.full((2, 4), 99, np.uint8), "PNG"), 8, fit="pad").pixels[..., 0]
    np.testing.assert_array_equal(
        image, np.repeat([0, 99, 99, 0], 2)[:, np.newaxis] * np.ones(8, int)
    )


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [1, 7, 224])
def test_shape_dtype_and_layout(fit: str, channels: int, size: int) -> None:
    image = radiograph(encode(RGB, "JPEG"), size, fit=fit, channels=channels)
    assert image.pixels.shape == (size, size, channels)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.flags["C_CONTIGUOUS"]
    assert image.pixels.flags["WRITEABLE"]
    for channel in range(channels):
        np.testing.assert_array_equal(image.pixels[..., channel], image.pixels[..., 0])


def test_reduced_decoding_of_a_large_jpeg_is_accurate() -> None:
    large = GREY.resize((1600, 960), Image.Resampling.BILINEAR)
    data = encode(large, "JPEG", quality=95, exif=oriented(6))
    image = radiograph(data, 64)
    assert (image.height, image.width) == (
        1600,
        960,
    )  # of the source
    wanted = np.asarray(
        large.transpose(Image.Transpose.ROTATE_270).resize((64, 64), Image.Resampling.BILINEAR)
    )
    assert np.abs(image.pixels[..., 0].astype(int) - wanted).max() <= 3


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1), (1, 1)])
def test_decodes_extreme_shapes(fit: str, form: str, shape: tuple[int, int]) -> None:
    image = radiograph(encode(np.full(shape, 77, np.uint8), form), 64, fit=fit)
    assert (image.height, image.width) == shape
    assert set(np.unique(image.pixels)) <= {0, 77}
    assert 77 in image.pixels


def test_threads_give_equal_pixels() -> None:
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
_SEVERAL = "^more than one frame; expected one image$"
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
            b"P6 10000 10001 255\n",
            "^10000 x 10001 pixels, which take 1,001 MB of memory to decode; expected at most",
            id="1 GB",
        ),
        pytest.param(
            png_header(2**31 - 1, 2**31 - 1),
            "^more than the 178,956,970 pixels that Pillow opens",
            id="bomb",
        ),
        pytest.param(encode(GREY, "GIF", **FRAMES), _SEVERAL, id="gif, animated"),
        pytest.param(encode(GREY, "PNG", **FRAMES), _SEVERAL, id="png, animated"),
        pytest.param(encode(GREY, "WEBP", **FRAMES), _SEVERAL, id="webp, animated"),
        pytest.param(encode(GREY, "TIFF", **FRAMES), _SEVERAL, id="tiff, two pages"),
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
def test_refuses_unusable_files(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        radiograph(data, 32)


def test_memory_limit_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_IMAGE_MB, str(24 * 40 * 4 / 1e6))  # mode L takes 4 bytes
    radiograph(encode(RAMP, "PNG"), 8)
    with pytest.raises(
        BadImage, match=r"^41 x 24 pixels, which take 1 MB .* CXR_TFDS_MAX_IMAGE_MB"
    ):
        radiograph(encode(np.zeros((24, 41), np.uint8), "PNG"), 8)
    monkeypatch.setenv(MAX_IMAGE_MB, "much")
    with pytest.raises(InputError, match=r"^CXR_TFDS_MAX_IMAGE_MB='much'; expected a positive"):
        radiograph(PNG, 8)


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
def test_refuses_wrong_settings_with_input_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        radiograph(b"", **settings)
    assert not isinstance(caught.value, BadImage)


def test_accepts_numpy_integers() -> None:
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Pillow warns about corrupt metadata
@pytest.mark.parametrize("form", SEEDS)
def test_corrupt_files_end_in_bad_image_or_pixels(form: str) -> None:
    rng = np.random.default_rng(len(form))
    seed = SEEDS[form]
    corrupt = [seed[:cut] for cut in rng.integers(1, len(seed), 20)]
    for _ in range(120):
        changed = bytearray(seed)
        for place in rng.integers(0, min(len(seed), 400), rng.integers(1, 6)):
            changed[place] = rng.integers(256)
        corrupt.append(bytes(changed))
    for number, data in enumerate(corrupt):
        try:
            image = radiograph(data, 16, fit=FITS[number % 3])
        except BadImage as err:
            assert str(err)  # noqa: PT017 (pixels are as good)
        else:
            assert image.pixels.shape == (16, 16, 1)


@pytest.mark.filterwarnings("ignore")
def test_refuses_random_bytes() -> None:
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


def test_looping_tiff_directory_ends(tmp_path: Path) -> None:
    """In a subprocess, where an endless loop fails the test instead of blocking it."""
    data = bytearray(encode(GREY, "TIFF"))
    (directory,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, directory)
    next_directory = directory + 2 + 12 * entries
    struct.pack_into("<I", data, next_directory, directory)  # points to itself
    path = tmp_path / "x.tif"
    path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", _DECODE, path], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    pixels = np.frombuffer(done.stdout, np.uint8).reshape(40, 40)
    np.testing.assert_array_equal(pixels, STRETCHED)


_DECODE = """
import sys
from pathlib import Path
from cxr_tfds.imaging.pixels import radiograph
sys.stdout.buffer.write(radiograph(Path(sys.argv[1]).read_bytes(), 40).pixels.tobytes())
"""


def test_decode_returns_what_radiograph_returns_or_raises() -> None:
    image = decode(PNG, 16, fit="crop", channels=3)
    assert isinstance(image, Radiograph)
    np.testing.assert_array_equal(image.pixels, radiograph(PNG, 16, fit="crop", channels=3).pixels)
    bad = decode(b"", 16)
    assert isinstance(bad, BadImage)
    assert (bad.reason, bad.path, bad.__traceback__) == ("empty file (0 bytes)", None, None)
    with pytest.raises(InputError, match="size=0"):
        decode(PNG, 0)


def test_tiff_tag_number() -> None:
    assert TiffImagePlugin.PHOTOMETRIC_INTERPRETATION == deep_pixels._PHOTOMETRIC
