"""Refused and corrupt DICOM files, and files that are not DICOM."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom.data
import pytest
from helpers.sources import dicom_file, dicom_lut
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

from cxr_tfds.errors import BadImage
from cxr_tfds.imaging.dicom import dicom_grey, is_dicom
from cxr_tfds.imaging.dicom_codecs import decode_frame
from cxr_tfds.imaging.pixels import decode, radiograph

# 12 bits stored in 16, from 0 to 4095.
TWELVE = np.linspace(0, 4095, 24 * 40).round().astype(np.uint16).reshape(24, 40)
LUT_OF_FOUR = [0, 85, 170, 255]


TWELVE_BITS = {"BitsStored": 12}
WINDOWED = TWELVE_BITS | {"WindowCenter": 2048, "WindowWidth": 4096}


def compressed(syntax: UID, form: str, image: Image.Image, **elements: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **({"no_jp2": True} if form == "JPEG2000" else {}))
    return dicom_file(
        np.asarray(image), syntax, PixelData=encapsulate([buffer.getvalue()]), **elements
    )


EIGHT = Image.fromarray((TWELVE >> 4).astype(np.uint8))


SMALL = (np.arange(64) * 1040).astype(np.uint16).reshape(8, 8)
WHOLE = dicom_file(SMALL)
LOSSLESS = dicom_file(SMALL, JPEGLosslessSV1, PixelData=encapsulate([b"\xff\xd8\xff\xd9"]))
DEFLATED = dicom_file(SMALL, UID("1.2.840.10008.1.2.1.99"))
UNKNOWN = WHOLE.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(
            dicom_file(SMALL, PixelData=None), "^DICOM without pixel data$", id="a report"
        ),
        pytest.param(
            dicom_file(SMALL, PixelData=None, FloatPixelData=bytes(256)),
            "^DICOM with floating-point",
            id="float",
        ),
        pytest.param(
            bytes(128) + b"DICM" + bytes(64),
            "^(DICOM without|cannot be decoded as)",
            id="nothing in it",
        ),
        pytest.param(bytes(128) + b"DICM", "^DICOM without pixel data$", id="preamble only"),
        pytest.param(
            WHOLE[:-40],
            "^cannot be decoded as DICOM: less pixel data than expected",
            id="truncated pixels",
        ),
        pytest.param(WHOLE[:300], "^DICOM without pixel data$", id="truncated header"),
        pytest.param(
            dicom_file(SMALL, NumberOfFrames=3),
            "^3 frames; expected one image$",
            id="multi-frame",
        ),
        pytest.param(dicom_file(SMALL, Rows=0), "^8 x 0 pixels; expected at least 1", id="no rows"),
        pytest.param(
            dicom_file(SMALL, Rows=60_000, Columns=2000),
            "^2000 x 60000 pixels, which take 2,400 MB of memory to decode; expected at most",
            id="too many pixels",
        ),
        pytest.param(
            dicom_file(SMALL, Rows=None),
            "^DICOM without Rows, which every image needs$",
            id="no Rows",
        ),
        pytest.param(
            dicom_file(SMALL.astype(np.uint32), BitsStored=32),
            "^32 bits per pixel; expected at most 16$",
            id="32 bit",
        ),
        pytest.param(
            dicom_file(SMALL, BitsStored=12, HighBit=15),
            "^12 bits below bit 15",
            id="upper bits",
        ),
        pytest.param(
            dicom_file(SMALL, PhotometricInterpretation="PALETTE COLOR"),
            "^photometric interpretation PALETTE COLOR; expected MONO",
            id="palette",
        ),
        pytest.param(
            dicom_file(SMALL, RescaleSlope=0, RescaleIntercept=1),
            "^rescale slope of 0",
            id="slope 0",
        ),
        pytest.param(
            dicom_file(SMALL, WindowCenter=5, WindowWidth=0),
            "^window of width 0; expected 1",
            id="width",
        ),
        pytest.param(
            dicom_file(SMALL, WindowCenter=5, WindowWidth=2, VOILUTFunction="LOG"),
            "^VOI LUT function 'LOG'",
            id="f",
        ),
        pytest.param(
            LOSSLESS,
            r"^compressed pixel data of shape unknown, but the DICOM header announces \(8, 8\)",
            id="JPEG Lossless without pixels",
        ),
        pytest.param(DEFLATED, "^DICOM in Deflated Explicit VR Little Endian; save", id="deflated"),
        pytest.param(
            UNKNOWN,
            r"^DICOM in 1\.2\.840\.10008\.9\.9\.9, for which no decoder exists$",
            id="unknown",
        ),
        pytest.param(
            dicom_file(
                SMALL,
                JPEG2000Lossless,
                PixelData=encapsulate([b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(30)]),
            ),
            "^JPEG 2000 box of 0 bytes; expected 8 or more$",
            id="JP2 whose second box never ends",
        ),
        pytest.param(
            dicom_file(
                TWELVE[:5],
                JPEGExtended12Bit,
                PixelData=encapsulate([b"\xff\xd8\xff\xd9"]),
                BitsStored=12,
            ),
            r"^compressed pixel data of shape unknown, but",
            id="12-bit JPEG without pixels",
        ),
        pytest.param(
            dicom_file((SMALL // 520).astype(np.int16)),
            "^no declared range, and values 0 to 126 of 16 bits would become 1 of 256 grey levels",
            id="signed, no window",
        ),
        pytest.param(
            dicom_file(
                SMALL, JPEGBaseline8Bit, PixelData=encapsulate([b"\xff\xd8\xff\xd9"]), BitsStored=8
            ),
            "^compressed pixel data of shape unknown, but",
            id="corrupt JPEG inside",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")  # pydicom warns before the file is refused
def test_refuses_unusable_files(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        dicom_grey(data)


@pytest.mark.filterwarnings("ignore:.*Bits Stored")
def test_refuses_values_beyond_the_bits_stored() -> None:
    data = compressed(JPEG2000Lossless, "JPEG2000", Image.fromarray(TWELVE), BitsStored=10)
    with pytest.raises(BadImage, match=r"^values 0 to 4095; 10 bits stored allow 0 to 1023$"):
        dicom_grey(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff\xe0\0\x10JFIF",
        b"\x89PNG\r\n\x1a\n",
        b"BM" + bytes(60),
        b"II*\0\x08\0\0\0",
        b"\x08\0",
        bytes(400),
    ],
)
def test_other_files_are_not_dicom(data: bytes) -> None:
    assert not is_dicom(data)


@pytest.mark.filterwarnings("ignore")  # pydicom warns of corrupt elements
@pytest.mark.parametrize(
    "seed",
    [
        dicom_file(TWELVE, **WINDOWED),
        dicom_file(SMALL, preamble=False),
        dicom_file(np.array([[10, 11]], np.uint16), VOILUTSequence=[dicom_lut(LUT_OF_FOUR, 10, 8)]),
        compressed(JPEG2000Lossless, "JPEG2000", EIGHT),
        compressed(JPEGBaseline8Bit, "JPEG", EIGHT),
    ],
    ids=["native", "bare", "lut", "jpeg 2000", "jpeg"],
)
def test_corrupt_files_end_in_bad_image_or_pixels(seed: bytes) -> None:
    rng = np.random.default_rng(len(seed))
    start = 132 if seed[128:132] == b"DICM" else 0
    corrupt = [seed[:length] for length in range(0, len(seed), max(1, len(seed) // 25))]
    for _ in range(120):
        changed = bytearray(seed)
        for place in rng.integers(start, min(len(seed), 900), rng.integers(1, 6)):
            changed[place] = rng.integers(256)
        corrupt.append(bytes(changed))
    for data in corrupt:
        try:
            image = radiograph(data, 16)
        except BadImage as err:
            assert str(err)  # noqa: PT017 (pixels are as good)
        else:
            assert image.pixels.shape == (16, 16, 1)


@pytest.mark.filterwarnings("ignore")  # pydicom warns of an unknown value representation
@pytest.mark.parametrize("unknown", [b"GB", b"ZZ"])
@pytest.mark.parametrize("start", [b"\x28\0\x10\0US", b"\x28\0\4\0CS", b"\xe0\x7f\x10\0OW"])
def test_elements_of_an_unknown_kind_end_in_bad_image(start: bytes, unknown: bytes) -> None:
    assert WHOLE.count(start) == 1
    with pytest.raises(BadImage, match="DICOM"):
        radiograph(WHOLE.replace(start, start[:4] + unknown), 16)


def test_names_the_extra_without_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(BadImage, match=r"^DICOM in JPEG Lossless.*; install .*cxr-tfds\[dicom\]"):
        dicom_grey(LOSSLESS)


def test_corrupt_lossless_frames_end_in_bad_image_or_pixels() -> None:
    frame = imagecodecs.jpeg8_encode(TWELVE, lossless=True, bitspersample=12)
    rng = np.random.default_rng(0)
    for _ in range(200):
        changed = bytearray(frame)
        for place in rng.integers(0, len(frame), rng.integers(1, 20)):
            changed[place] = rng.integers(256)
        with contextlib.suppress(BadImage):
            values = decode_frame(bytes(changed), JPEGLosslessSV1, TWELVE.shape)
            assert values is not None
            assert values.shape == TWELVE.shape


def test_truncated_jpeg_ls_ends_in_bad_image() -> None:
    frame = imagecodecs.jpegls_encode(TWELVE)
    for size in range(2, len(frame) - 20, 10):  # CharLS alone takes 10 seconds for each
        with pytest.raises(BadImage):
            decode_frame(frame[:size], JPEGLSLossless, TWELVE.shape)
    complete = decode_frame(frame + b"\0", JPEGLSLossless, TWELVE.shape)  # DICOM pads odd lengths
    assert np.array_equal(complete, TWELVE)


PYDICOM_FILES = sorted(
    path
    for path in (Path(pydicom.data.__file__).parent / "test_files").rglob("*")
    if path.is_file() and path.suffix not in (".py", ".pyc")
)
DECODED = {  # one of each compressed transfer syntax
    "JPEG-lossy.dcm", "SC_rgb_jpeg_gdcm.dcm",
    "JPEGLSNearLossless_08.dcm", "JPEGLSNearLossless_16.dcm", "MR_small_jp2klossless.dcm",
    "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_jpeg_no_color_transform.dcm",
    "SC_rgb_gdcm_KY.dcm",
}  # fmt: skip
PYTHON = re.compile(r"Error|Traceback|object|attribute|exception|plugin|literal|<|None|\bint\b")


@pytest.mark.filterwarnings("ignore")  # pydicom warns of corrupt elements
@pytest.mark.parametrize("path", PYDICOM_FILES, ids=lambda path: path.name)
def test_every_file_of_pydicom_decodes_or_gives_a_clear_reason(path: Path) -> None:
    image = decode(path.read_bytes(), 64)
    if isinstance(image, BadImage):
        assert path.name not in DECODED, image.reason
        assert not PYTHON.search(image.reason), image.reason
    else:
        assert image.pixels.shape == (64, 64, 1)
