"""Files that declare much: refused before a decoder runs, and readers that refuse large files.

All files are tried in one child process that may take 300 MB more than at its start, so a decoder
that gets one of them fails the test without harm to the machine.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.hostile_images import deep_png, repeated_gif, run_length_bmp, tiff_pages
from helpers.sources import dicom_file, encode
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from cxr_tfds.errors import BadImage
from cxr_tfds.imaging import grey_levels, pixels
from cxr_tfds.imaging.dicom_codecs import decode_rle
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.imaging.opening import open_image
from cxr_tfds.imaging.pixels import decode, radiograph
from cxr_tfds.limits import MAX_FILE_MB, MAX_IMAGE_MB, reserve_memory
from cxr_tfds.regular_files import read_content, read_or_explain, read_stream
from cxr_tfds.sources.archives.tar import list_tar
from cxr_tfds.sources.archives.zip import list_zip

GREY = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
RGB = Image.merge("RGB", [GREY] * 3)
SIXTEEN = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
_MEMORY_MB = 300
_DECODE = """
import json, resource, sys
from pathlib import Path
from cxr_tfds.errors import BadImage
from cxr_tfds.imaging.pixels import decode
import pydicom, pydicom.pixels, imagecodecs
for path in sys.argv[3:]:
    decode(Path(path).read_bytes(), 8)  # loads decoders
size = int(next(x for x in open("/proc/self/status") if x.startswith("VmSize")).split()[1])
limit = (size << 10) + (int(sys.argv[1]) << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
results = {}
for path in sorted(Path(sys.argv[2]).iterdir()):
    result = decode(path.read_bytes(), 32)
    results[path.name] = result.reason if isinstance(result, BadImage) else "decoded"
print(json.dumps(results))
"""


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(*chunks: bytes) -> bytes:
    data = encode(GREY, "PNG")
    return data[:33] + b"".join(chunks) + data[33:]  # after IHDR


def png_without_pixels(width: int, height: int, bits: int, kind: int) -> bytes:
    """Returns a PNG of a colour type, which ends where its pixels begin."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


def webp_canvas(side: int, flags: int = 0) -> bytes:
    """Returns a WebP of 30 bytes without an image on its canvas."""
    sides = struct.pack("<I", side - 1)[:3] * 2
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<II", 10, flags) + sides


def directory(tags: list[tuple[int, int, int, int]], at: int = 8, following: int = 0) -> bytes:
    """Returns a TIFF with an IFD at `at`, after zeros; tags are (tag, type, count, value)."""
    return (
        b"II*\0" + struct.pack("<I", at) + bytes(at - 8) + struct.pack("<H", len(tags))
        + b"".join(struct.pack("<HHII", *tag) for tag in tags) + struct.pack("<I", following)
    )  # fmt: skip


PIXEL = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
         (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 8), (279, 4, 1, 64)]  # fmt: skip


def overlapping_tiff(entries: int, size: int) -> bytes:
    """Returns a TIFF whose entries all name the same `size` bytes, which Pillow copies for each."""
    return directory(
        [*PIXEL, *((tag, 7, size, 8) for tag in range(1000, 1000 + entries))], 8 + size
    )


def tiled_tiff(side: int) -> bytes:
    tile = [(322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 8), (325, 4, 1, 8)]
    tags = [tag for tag in PIXEL if tag[0] not in (259, 273, 278, 279)]
    return directory(sorted([*tags, (259, 3, 1, 5), *tile]), 80)


def scanned_jpeg(scans: int) -> bytes:
    """Returns a progressive JPEG with copies of its last scan, each a pass over all pixels."""
    data = encode(GREY, "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * scans + b"\xff\xd9"


def styled_jpeg2000(side: int, precinct: int = 0xFF, layers: int = 1, block: int = 4) -> bytes:
    """Returns the header of a JPEG 2000 codestream without data."""
    size = struct.pack(">HHIIIIIIIIH", 41, 0, side, side, 0, 0, side, side, 0, 0, 1) + b"\7\1\1"
    flags = 1 if precinct != 0xFF else 0
    style = bytes([flags, 0]) + struct.pack(">HB", layers, 0) + bytes([5, block, block, 0, 1])
    style += bytes([precinct] * 6) if flags else b""
    return (
        b"\xff\x4f\xff\x51" + size + b"\xff\x52" + struct.pack(">H", 2 + len(style)) + style
        + b"\xff\x5c" + struct.pack(">HB", 19, 0x40) + bytes([8] * 16)
        + b"\xff\x90" + struct.pack(">HHIBB", 10, 0, 14, 0, 1) + b"\xff\x93\xff\xd9"
    )  # fmt: skip


def commented_gif(size: int) -> bytes:
    """Returns a GIF with a comment, whose blocks Pillow joins one by one."""
    data = encode(GREY, "GIF")
    at = data.rindex(b"\x2c" + bytes(4))
    return data[:at] + b"\x21\xfe" + (b"\xff" + bytes(255)) * (size // 256) + b"\0" + data[at:]


def run_length_dicom(size: int) -> bytes:
    frame = struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\0" * (size // 2)
    return dicom_file(np.zeros((8, 8), np.uint8), RLELossless, PixelData=encapsulate([frame]))


def many_elements(count: int) -> bytes:
    """Returns a DICOM file with empty private elements, of 8 bytes each, before its pixels."""
    data = dicom_file(SIXTEEN)
    at = data.index(struct.pack("<HH", 0x28, 0x02))
    return data[:at] + struct.pack("<HH2sH", 0x21, 0x10, b"LO", 0) * count + data[at:]


def deflated_dicom() -> bytes:
    """Returns a deflated DICOM file whose transfer syntax is behind 8,000 bytes of a UID."""
    name = struct.pack("<HH2sH", 2, 3, b"UI", 8000) + b"1" * 8000
    syntax = b"1.2.840.10008.1.2.1.99"
    meta = name + struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta))
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(1 << 20)
    return (
        bytes(128) + b"DICM" + length + meta
        + b"".join(packer.compress(zeros) for _ in range(50)) + packer.flush()
    )  # fmt: skip


JPEG = encode(GREY, "JPEG")
FRAME = JPEG.index(b"\xff\xc0") + 5  # height and width follow
LARGE_JPEG = JPEG[:FRAME] + struct.pack(">HH", 8_000, 16_000) + JPEG[FRAME + 4 :]
BLANK = np.zeros((8, 8), np.uint8)
FRAMES = "more than one frame; expected one image"
REFUSED = {
    "bmp: run lengths": (run_length_bmp(), "BMP with the compression bmp_rle, which no"),
    "webp: canvas": (webp_canvas(16_000), "16000 x 16000 pixels, which take 7,168 MB"),
    "webp: animation": (webp_canvas(16, flags=2), FRAMES),
    "png: animated": (deep_png(side=10, frames=1_000_000), FRAMES),
    "png: grey with alpha": (png_without_pixels(13_000, 13_000, 8, 4), "13000 x 13000 pixels"),
    "png: chunks": (png_with(chunk(b"teXt", b"") * 100_000), "a PNG of more than 100,000 chunks"),
    "png: exif": (png_with(chunk(b"eXIf", bytes(99_999))), "100,005 bytes of EXIF; expected at"),
    "png: metadata": (png_with(chunk(b"prVt", bytes(1 << 24))), "16,777,229 bytes of metadata"),
    "gif: frames": (repeated_gif(), FRAMES),
    "gif: comment": (commented_gif(2_000_000), "1,999,875 bytes of metadata; expected at most"),
    "tiff: pages": (tiff_pages(), FRAMES),
    "tiff: overlapping": (overlapping_tiff(900, 400_000), "more than 16,777,216 bytes of TIFF"),
    "tiff: entries": (overlapping_tiff(30_000, 64), "a TIFF directory of 30,009 entries"),
    "tiff: tile": (tiled_tiff(60_000), "60000 x 60000 pixels, which take 43,200 MB"),
    "tiff: strips": (directory([*PIXEL[:5], (273, 4, 1 << 20, 8), *PIXEL[6:]]), "a TIFF entry of"),
    "tiff: fax": (encode(GREY.convert("1"), "TIFF", compression="group4"), "TIFF compression 4;"),
    "jpeg: scans": (scanned_jpeg(2000), "a JPEG of 2,006 scans; expected at most 32"),
    "jpeg: segments": (b"\xff\xd8" + b"\xff\xe5\0\2" * 5000, "a JPEG with too much metadata"),
    "jpeg: padding": (b"\xff\xd8" + b"\xff" * 99_999 + b"\xe5\0\2" * 9, "a JPEG with too much"),
    "jpeg 2000: precincts": (styled_jpeg2000(4000, precinct=0x11), "5,347,741 JPEG 2000 packets"),
    "jpeg 2000: layers": (styled_jpeg2000(7000, layers=65_535), "1,572,840 JPEG 2000 packets"),
    "jpeg 2000: code blocks": (styled_jpeg2000(6000, block=0), "6000 x 6000 pixels, which take"),
    "ppm: as text": (b"P2 4000 4000 255\n" + b"1 " * 99, "16,000,000 samples of PPM as text"),
    "ppm: comments": (b"P2 9 9 255\n" + b"#\n" * 400_000, "a PNM with 400,000 comments"),
    "ppm: header": (b"P5 #" + b"x" * 9000 + b"\n9 9 255\n", "a PNM header of more than 4,096"),
    "gif: blocks": (encode(GREY, "GIF")[:-2] + b"\1x" * 1_000_001, "a GIF of more than 1,000,000"),
    "dicom: other JPEG": (
        dicom_file(BLANK, JPEGBaseline8Bit, PixelData=encapsulate([LARGE_JPEG])),
        "compressed pixel data of shape (8000, 16000), but the DICOM header announces (8, 8)",
    ),
    "dicom: other JPEG 2000": (
        dicom_file(
            BLANK, JPEG2000Lossless, PixelData=encapsulate([styled_jpeg2000(5000)]), BitsStored=8
        ),
        "compressed pixel data of shape (5000, 5000), but the DICOM header announces (8, 8)",
    ),
    "dicom: run lengths": (run_length_dicom(20_000_000), "corrupt compressed pixel data"),
    "dicom: elements": (many_elements(200_000), "DICOM with too many elements"),
    "dicom: deflated": (deflated_dicom(), "DICOM in Deflated Explicit VR Little Endian"),
}  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="limits memory on Linux")
def test_files_that_declare_much_are_refused_within_little_memory(tmp_path: Path) -> None:
    files, good = tmp_path / "files", tmp_path / "good.jpg"
    files.mkdir()
    good.write_bytes(encode(GREY, "JPEG"))
    for number, (data, _) in enumerate(REFUSED.values()):
        (files / f"{number:03}").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _DECODE, str(_MEMORY_MB), files, good],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = dict(zip(REFUSED, json.loads(done.stdout).values(), strict=True))
    wrong = {name: x for name, x in found.items() if not x.startswith(REFUSED[name][1])}
    assert wrong == {}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png_without_pixels(8000, 5000, 16, 0), id="PNG, 16 bits"),
        pytest.param(png_without_pixels(8000, 5000, 16, 2), id="PNG, 16-bit colour"),
        pytest.param(b"P5 8000 5000 65535\n", id="PGM, 16 bits"),
        pytest.param(styled_jpeg2000(7000), id="JPEG 2000"),
    ],
)
def test_forty_megapixels_are_allowed_and_the_limit_can_be_set(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_image(data)
    monkeypatch.setenv(MAX_IMAGE_MB, "100")
    with pytest.raises(BadImage, match=r"000 pixels, which take .*at most 100 MB.*_IMAGE_MB=\d+$"):
        open_image(data)


def test_forty_megapixels_of_dicom_are_allowed() -> None:
    elements = {"Rows": 8000, "Columns": 5000}
    with pytest.raises(BadImage, match="less pixel data than expected"):
        radiograph(dicom_file(SIXTEEN, **elements), 32)
    with pytest.raises(BadImage, match=r"^8000 x 8000 pixels, which take 1,280 MB"):
        radiograph(dicom_file(SIXTEEN, **elements | {"Columns": 8000}), 32)


def test_images_decoded_at_once_share_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_IMAGE_MB, "1")
    running, most, lock = 0, 0, threading.Lock()

    def work(size: int) -> None:
        nonlocal running, most
        with reserve_memory(size, 1000, 1):
            with lock:
                running += size
                most = max(most, running)
            time.sleep(0.01)
            with lock:
                running -= size

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [400] * 12 + [1000] * 2 + [300] * 12))
    assert 400 <= most <= 1000


def test_a_forked_process_reserves_anew() -> None:
    with reserve_memory(1000, 1000, 1000):  # all that is allowed
        child = multiprocessing.get_context("fork").Process(target=radiograph, args=(JPEG, 8))
        child.start()
        child.join(60)
        child.kill()
    assert child.exitcode == 0


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with a file of 2 MB alone, in a zip and in a tar."""
    folder = tmp_path_factory.mktemp("archived")
    (folder / "a.png").write_bytes(bytes(2_000_000))
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.write(folder / "a.png", "a.png")
    with tarfile.open(folder / "a.tar", "w") as archive:
        archive.add(folder / "a.png", "a.png")
    return folder


def test_every_reader_refuses_large_files(archived: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [archived / "a.png", *list_zip(archived / "a.zip"), *list_tar(archived / "a.tar")]
    assert [len(read_content(file)) for file in files] == [2_000_000] * 3
    monkeypatch.setenv(MAX_FILE_MB, "1.5")
    reason = (
        "a file of 2 MB; expected at most 2 MB. If you trust it, allow more with "
        "CXR_TFDS_MAX_FILE_MB=2"
    )
    found = [read_or_explain(file) for file in files]
    found.append(read_stream(io.BytesIO(bytes(2_000_000))))
    found.append(decode(bytes(2_000_000), 8))  # uploads, and bytes that a program has
    assert [x.reason for x in found if isinstance(x, BadImage)] == [reason] * 5


def test_a_sparse_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    with path.open("wb") as file:
        file.truncate(30 << 30)
    with pytest.raises(BadImage, match=r"^a file of 32,213 MB; expected at most 256 MB"):
        read_content(path)


def test_standard_input_is_read_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_FILE_MB, "1")
    endless = io.BytesIO(bytes(9_000_000))
    assert isinstance(read_stream(endless), BadImage)
    assert endless.tell() == 1_000_001


@pytest.mark.parametrize("padding", [b"", b"\0", b"\0" * 9, b"\x80"])
def test_run_length_frames_decode_as_pydicom_decodes_them(padding: bytes) -> None:
    values = np.random.default_rng(0).integers(0, 9, (6, 7, 3), dtype=np.uint8)
    for samples in (values, values[..., 0], values[..., 0].astype(np.uint16) * 999):
        frame = run_length_frame(samples, padding)
        found = decode_rle(frame, samples.itemsize, samples.shape)
        np.testing.assert_array_equal(found, samples)
        with pytest.raises(BadImage, match=r"^corrupt compressed"):
            decode_rle(frame[:-20], samples.itemsize, samples.shape)
        with pytest.raises(BadImage, match=" RLE segments; expected 4"):
            decode_rle(frame, 4, samples.shape[:2])


def run_length_frame(values: np.ndarray, padding: bytes) -> bytes:
    """Returns an RLE frame: a segment for each byte of each sample, the upper byte first."""
    samples = np.moveaxis(np.atleast_3d(values), -1, 0)
    big = np.ascontiguousarray(samples).astype(values.dtype.newbyteorder(">"))
    planes = big.view(np.uint8).reshape(*samples.shape, values.itemsize)
    segments = [
        b"".join(bytes([len(row) - 1]) + row.tobytes() for row in plane[..., byte]) + padding
        for plane in planes
        for byte in range(values.itemsize)
    ]
    offsets = np.cumsum([64, *map(len, segments)])[:-1].tolist()
    header = [len(segments), *offsets, *[0] * (15 - len(segments))]
    return struct.pack("<16L", *header) + b"".join(segments)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "CMYK", "I;16", "I"])
def test_strips_change_no_pixel(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 1 << 16, (50, 70), dtype=np.uint16)
    if mode.startswith("I"):
        data = encode(noise if mode == "I;16" else noise.astype(np.int32), "TIFF")
    else:
        bands = [Image.fromarray((noise >> shift).astype(np.uint8)) for shift in range(len(mode))]
        data = encode(Image.merge(mode, bands), "TIFF")
    for levels in (GreyLevels(), GreyLevels(measured=(0, 9999)), GreyLevels(percentile=(1, 99))):
        with monkeypatch.context() as patch:
            whole = radiograph(data, 40, levels=levels).pixels
            patch.setattr(pixels, "_STRIP_PIXELS", 200)
            patch.setattr(grey_levels, "_PART_VALUES", 200)
            np.testing.assert_array_equal(radiograph(data, 40, levels=levels).pixels, whole)
