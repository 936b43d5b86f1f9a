"""DICOM to grey values: numbers worked by hand, transfer syntaxes, and equality on the device."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from helpers.sources import dicom_file, dicom_lut
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from cxr_tfds.building.fitting import FitSettings, fit_file
from cxr_tfds.errors import BadImage
from cxr_tfds.imaging import pixels
from cxr_tfds.imaging.dicom import dicom_grey, is_dicom, measure_dicom
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.imaging.pixels import Radiograph, radiograph

ROOT = Path(__file__).parents[2]
DEVICE = ROOT / ".venv-edge" / "bin" / "python"

# 12 bits stored in 16, from 0 to 4095.
TWELVE = np.linspace(0, 4095, 24 * 40).round().astype(np.uint16).reshape(24, 40)
LUT_OF_FOUR = [0, 85, 170, 255]


def grey(data: bytes) -> list[int]:
    return dicom_grey(data).ravel().tolist()


ROW = np.array([[0, 1023, 2048, 4095]], np.uint16)
TWELVE_BITS = {"BitsStored": 12}
SIGNED = np.array([[-2048, -1024, 0, 2047]], np.int16)
LINEAR = {
    "WindowCenter": 2048,
    "WindowWidth": 2049,
}  # from 1023.5 to 3071.5: one grey level is 8.03 values


@pytest.mark.parametrize(
    ("values", "elements", "expected"),
    [
        pytest.param(
            np.array([[0, 7, 128, 255]], np.uint8), {}, [0, 7, 128, 255], id="8 bit as it is"
        ),
        pytest.param(ROW, {}, [0, 4, 8, 16], id="16 bit of which the image fills 12: no stretch"),
        pytest.param(ROW * 0 + 9, TWELVE_BITS, [1, 1, 1, 1], id="one value only"),
        pytest.param(ROW // 2, TWELVE_BITS, [0, 32, 64, 127], id="12 bit half filled: no stretch"),
        pytest.param(
            ROW,
            TWELVE_BITS,
            [0, 64, 128, 255],
            id="12 bit, no window: the range of the bits stored",
        ),
        pytest.param(SIGNED, TWELVE_BITS, [0, 64, 128, 255], id="signed 12 bit"),
        pytest.param(
            ROW,
            TWELVE_BITS | {"PhotometricInterpretation": "MONOCHROME1"},
            [255, 191, 127, 0],
            id="MONOCHROME1",
        ),
        pytest.param(
            ROW,
            TWELVE_BITS | {"RescaleSlope": 2, "RescaleIntercept": -1024},
            [0, 64, 128, 255],
            id="rescaled range",
        ),
        pytest.param(
            ROW,
            TWELVE_BITS | {"RescaleSlope": -1, "RescaleIntercept": 0},
            [255, 191, 127, 0],
            id="slope -1",
        ),
        pytest.param(ROW, TWELVE_BITS | LINEAR, [0, 0, 128, 255], id="window"),
        pytest.param(
            ROW,
            TWELVE_BITS | LINEAR | {"PhotometricInterpretation": "MONOCHROME1"},
            [255, 255, 127, 0],
            id="window, then inverted",
        ),
        pytest.param(
            ROW,
            TWELVE_BITS | {"WindowCenter": [2048, 100], "WindowWidth": [2049, 2]},
            [0, 0, 128, 255],
            id="first of two windows",
        ),
        pytest.param(
            SIGNED,
            TWELVE_BITS
            | {
                "RescaleSlope": 1,
                "RescaleIntercept": 100,
                "WindowCenter": 100,
                "WindowWidth": 2049,
            },
            [0, 0, 128, 255],  # the window is of rescaled values
            id="rescale, then window",
        ),
        pytest.param(
            ROW,
            TWELVE_BITS | {"WindowCenter": 2048, "WindowWidth": 1},
            [0, 0, 255, 255],  # C.11.2.1.2.1: above c - 0.5
            id="window of width 1",
        ),
        pytest.param(
            ROW,
            TWELVE_BITS
            | {"WindowCenter": 2048, "WindowWidth": 2050, "VOILUTFunction": "LINEAR_EXACT"},
            [0, 0, 128, 255],
            id="linear exact: up to 1023",
        ),
        pytest.param(
            ROW,
            TWELVE_BITS | {"WindowCenter": 2048, "WindowWidth": 4096, "VOILUTFunction": "SIGMOID"},
            [30, 69, 128, 225],  # 255 / (1 + exp(-4 (x - 2048) / 4096))
            id="sigmoid",
        ),
        pytest.param(
            np.array([[0, 10, 11, 12, 13, 99]], np.uint16),
            {"VOILUTSequence": [dicom_lut(LUT_OF_FOUR, 10, 8)]},
            [0, 0, 85, 170, 255, 255],
            id="VOI LUT",
        ),
        pytest.param(
            np.array([[10, 11, 12, 13]], np.uint16),
            {"VOILUTSequence": [dicom_lut([0, 1365, 2730, 4095], 10, 12)]} | LINEAR,
            [0, 85, 170, 255],
            id="VOI LUT of 12 bit, before a window",
        ),
        pytest.param(
            np.array([[0, 1, 2, 3]], np.uint16),
            {"ModalityLUTSequence": [dicom_lut(LUT_OF_FOUR[::-1], 0, 8)]},
            [255, 170, 85, 0],
            id="modality LUT",
        ),
        pytest.param(
            ROW,
            TWELVE_BITS | {"WindowCenter": "", "WindowWidth": ""},
            [0, 64, 128, 255],
            id="empty window",
        ),
    ],
)
def test_numbers_by_hand(values: np.ndarray, elements: dict[str, Any], expected: list[int]) -> None:
    assert grey(dicom_file(values, **elements)) == expected


SLOPE_DOWN = {"RescaleSlope": -1, "RescaleIntercept": 0}


@pytest.mark.parametrize(
    ("values", "elements", "levels", "expected"),
    [
        pytest.param(ROW, {}, {"bits": 12}, [0, 64, 128, 255], id="bits"),
        pytest.param(ROW, SLOPE_DOWN, {"bits": 12}, [255, 191, 127, 0], id="bits, slope -1"),
        pytest.param(ROW // 4, {"BitsStored": 10}, {"bits": 12}, [0, 64, 128, 255], id="declared"),
        pytest.param(ROW, {}, {"measured": (0, 4095)}, [0, 64, 128, 255], id="measured"),
        pytest.param(ROW, {}, {"measured": (0, 8190)}, [0, 32, 64, 128], id="wider"),
        pytest.param(ROW, TWELVE_BITS, {"measured": (0, 8190)}, [0, 64, 128, 255], id="not used"),
        pytest.param(
            SIGNED, {}, {"measured": (-2048, 2047)}, [0, 64, 128, 255], id="measured, signed"
        ),
        pytest.param(ROW, LINEAR, {"measured": (0, 9999)}, [0, 0, 128, 255], id="own window"),
        pytest.param(
            ROW,
            TWELVE_BITS | LINEAR | {"RescaleSlope": 1, "RescaleIntercept": -2048},
            {"window": (0, 2049)},
            [0, 0, 128, 255],
            id="window of the setting, after rescaling",
        ),
        pytest.param(
            ROW, LINEAR, {"percentile": (0, 100)}, [0, 64, 128, 255], id="percentile, not window"
        ),
    ],
)
def test_levels_of_the_dataset(
    values: np.ndarray, elements: dict[str, Any], levels: dict[str, Any], expected: list[int]
) -> None:
    data = dicom_file(values, **elements)
    assert dicom_grey(data, GreyLevels(**levels)).ravel().tolist() == expected


@pytest.mark.parametrize("elements", [{}, {"RescaleSlope": 1, "RescaleIntercept": -1024}])
def test_measures_rescaled_values(elements: dict[str, Any]) -> None:
    stored = np.arange(2000, dtype=np.uint16).reshape(40, 50)
    stored[0, 0] = 65535  # one hot pixel
    low = elements.get("RescaleIntercept", 0)
    assert measure_dicom(dicom_file(stored, **elements)) == (low + 2, low + 1999)
    stored[0] = 30000
    padded = dicom_file(stored, PixelPaddingValue=30000, **elements)
    assert measure_dicom(padded) == (low + 51, low + 1998)


@pytest.mark.parametrize(
    "elements",
    [TWELVE_BITS, LINEAR, {"ModalityLUTSequence": [dicom_lut(LUT_OF_FOUR, 0, 8)]}],
)
def test_measures_only_files_without_a_range(elements: dict[str, Any]) -> None:
    assert measure_dicom(dicom_file(ROW, **elements)) is None
    assert measure_dicom(dicom_file(ROW.astype(np.uint8))) is None


def test_refuses_a_window_on_eight_bits() -> None:
    with pytest.raises(BadImage, match=r"^an image of 8 bits, but the window \(center -600"):
        dicom_grey(dicom_file(ROW.astype(np.uint8)), GreyLevels(window="lung"))


WINDOWED = TWELVE_BITS | {"WindowCenter": 2048, "WindowWidth": 4096}


@pytest.mark.parametrize(
    ("syntax", "preamble"),
    [
        (ExplicitVRLittleEndian, True),
        (ExplicitVRLittleEndian, False),
        (ImplicitVRLittleEndian, True),
        (ImplicitVRLittleEndian, False),
        (ExplicitVRBigEndian, True),
    ],
)
def test_native_syntaxes_agree(syntax: UID, preamble: bool) -> None:
    data = dicom_file(TWELVE, syntax, preamble=preamble, **WINDOWED)
    assert is_dicom(data)
    wanted = (TWELVE / 4095 * 255 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(dicom_grey(data), wanted)


def compressed(syntax: UID, form: str, image: Image.Image, **elements: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **({"no_jp2": True} if form == "JPEG2000" else {}))
    return dicom_file(
        np.asarray(image), syntax, PixelData=encapsulate([buffer.getvalue()]), **elements
    )


EIGHT = Image.fromarray((TWELVE >> 4).astype(np.uint8))


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        pytest.param(compressed(JPEGBaseline8Bit, "JPEG", EIGHT), 3, id="JPEG"),
        pytest.param(compressed(JPEGExtended12Bit, "JPEG", EIGHT), 3, id="JPEG extended, 8 bit"),
        pytest.param(compressed(JPEG2000Lossless, "JPEG2000", EIGHT), 0, id="JPEG 2000"),
        pytest.param(
            compressed(JPEG2000Lossless, "JPEG2000", Image.fromarray(TWELVE << 4)),
            0,
            id="JPEG 2000, 16 bit",
        ),
    ],
)
def test_compressed_syntaxes(data: bytes, tolerance: int) -> None:
    assert np.abs(dicom_grey(data).astype(int) - np.asarray(EIGHT)).max() <= tolerance + 1


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless])
def test_lossless_jpeg(syntax: UID, signed: bool) -> None:
    frame = (
        imagecodecs.jpegls_encode(TWELVE)
        if syntax == JPEGLSLossless
        else imagecodecs.jpeg8_encode(TWELVE, lossless=True, bitspersample=12)
    )
    elements = {**TWELVE_BITS, "PixelRepresentation": int(signed)}
    stored = ((TWELVE.astype(np.int16) ^ 2048) - 2048) if signed else TWELVE
    data = dicom_file(stored, syntax, PixelData=encapsulate([frame]), **elements)
    np.testing.assert_array_equal(dicom_grey(data), dicom_grey(dicom_file(stored, **elements)))


def test_run_length_encoding() -> None:
    from pydicom import dcmread

    dataset = dcmread(io.BytesIO(dicom_file(TWELVE, **WINDOWED)))
    dataset.compress(RLELossless, encoding_plugin="pydicom")
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    np.testing.assert_array_equal(
        dicom_grey(buffer.getvalue()),
        dicom_grey(dicom_file(TWELVE, **WINDOWED)),
    )


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_colour_becomes_luminance(photometric: str) -> None:
    rgb = Image.merge("RGB", [EIGHT, EIGHT.rotate(180), EIGHT])
    stored = np.asarray(rgb if photometric == "RGB" else rgb.convert("YCbCr"))
    elements = {
        "SamplesPerPixel": 3,
        "PlanarConfiguration": 0,
        "PhotometricInterpretation": photometric,
    }
    image = radiograph(dicom_file(stored, **elements), 24, fit="crop")
    wanted = np.asarray(rgb.convert("L"))[:, 8:32]
    assert np.abs(image.pixels[..., 0].astype(int) - wanted).max() <= 1
    assert (image.height, image.width) == (24, 40)


@pytest.mark.parametrize("fit", pixels.FITS)
def test_fits_like_other_images(fit: str) -> None:
    buffer = io.BytesIO()
    EIGHT.save(buffer, "PNG")
    data = dicom_file(np.asarray(EIGHT))
    for size, channels in ((16, 1), (33, 3)):
        image = radiograph(data, size, fit=fit, channels=channels)
        wanted = radiograph(buffer.getvalue(), size, fit=fit, channels=channels)
        np.testing.assert_array_equal(image.pixels, wanted.pixels)
        assert (image.height, image.width, image.format) == (24, 40, "DICOM")


def test_ignores_bits_above_the_stored_ones() -> None:
    assert grey(dicom_file(ROW | 0x8000, **TWELVE_BITS)) == [
        0,
        64,
        128,
        255,
    ]  # old overlays are there


SMALL = (np.arange(64) * 1040).astype(np.uint16).reshape(8, 8)
WHOLE = dicom_file(SMALL)


def test_names_the_extra_without_pydicom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(
        BadImage, match=r'^DICOM, which needs pydicom: pip install "cxr-tfds\[dicom\]"$'
    ):
        radiograph(WHOLE, 8)


def test_import_does_not_load_pydicom() -> None:
    code = "import sys, cxr_tfds.imaging.pixels; sys.exit('pydicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_datasets_store_pixels_but_not_the_file() -> None:
    decoded = fit_file(WHOLE, FitSettings(size=8))
    assert isinstance(decoded, Radiograph)
    np.testing.assert_array_equal(decoded.pixels, radiograph(WHOLE, 8).pixels)
    refused = fit_file(WHOLE, FitSettings(size=None))
    assert isinstance(refused, BadImage)
    assert "may name the patient" in refused.reason


@pytest.mark.skipif(not DEVICE.exists(), reason=f"no {DEVICE}: `make test` creates it")
def test_device_decodes_bit_for_bit_equal(tmp_path: Path) -> None:
    """In the device environment, which has no TensorFlow, with pydicom and this code added."""
    import pydicom

    package = Path(pydicom.__file__).parent
    for path in (package, *package.parent.glob("pydicom-*.dist-info")):
        (tmp_path / path.name).symlink_to(path)
    windowed = WINDOWED | {"PhotometricInterpretation": "MONOCHROME1"}
    files = {
        "native.dcm": dicom_file(TWELVE, **windowed),
        "sigmoid.dcm": dicom_file(TWELVE, **windowed, VOILUTFunction="SIGMOID"),
        "jpeg.dcm": compressed(JPEGBaseline8Bit, "JPEG", EIGHT),
        "2000.dcm": compressed(JPEG2000Lossless, "JPEG2000", EIGHT),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    code = """
import hashlib, pathlib, sys
from cxr_tfds.imaging.pixels import Radiograph, radiograph
for name in sys.argv[1:]:
    pixels = radiograph(pathlib.Path(name).read_bytes(), 33).pixels
    print(hashlib.sha256(pixels.tobytes()).hexdigest())
"""
    environment = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [DEVICE, "-c", code, *files],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wanted = [
        hashlib.sha256(radiograph(data, 33).pixels.tobytes()).hexdigest() for data in files.values()
    ]
    assert done.stdout.split() == wanted


def test_never_reads_the_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    import pydicom

    seen: list[str] = []
    whole: Callable[..., Dataset] = pydicom.dcmread

    def watched(*args: Any, **kwargs: Any) -> Dataset:
        dataset = whole(*args, **kwargs)
        seen.extend(element.keyword for element in dataset)
        return dataset

    monkeypatch.setattr(pydicom, "dcmread", watched)
    assert b"Secret^Name" in WHOLE
    dicom_grey(WHOLE)
    assert "PixelData" in seen
    assert "PatientName" not in seen
    assert struct.pack("<HH", 0x10, 0x10) in WHOLE
