"""Corrupt images and models end in a prediction or a clear error, never in a hang or a crash.

Each batch runs in a subprocess, where a crash of the interpreter is visible. Corruptions are
seeded, so failures repeat.
"""

import io
import json
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from cxr_tfds.export.edge import runtime

pytestmark = pytest.mark.slow

_TIMEOUT_S = 120
_FORMATS = {
    "jpg": ("JPEG", "L", {}),
    "progressive.jpg": ("JPEG", "RGB", {"progressive": True}),
    "png": ("PNG", "L", {}),
    "16.png": ("PNG", "I;16", {}),
    "palette.png": ("PNG", "P", {"transparency": 3}),
    "tif": ("TIFF", "L", {}),
    "lzw.tif": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "gif": ("GIF", "P", {}),
    "bmp": ("BMP", "RGB", {}),
    "pgm": ("PPM", "L", {}),
    "webp": ("WEBP", "RGB", {}),
    "jp2": ("JPEG2000", "L", {}),
}
_CLI = "from cxr_tfds.export.edge.command import cli; cli(prog_name='cxr-infer')"
_RUN_MODELS = """
import sys
from pathlib import Path
from cxr_tfds.errors import InputError
from cxr_tfds.export.edge.classifier import Classifier
image = Path(sys.argv[2]).read_bytes()
for path in sorted(Path(sys.argv[1]).iterdir()):
    print(path.name, end=" ", flush=True)
    try:
        prediction = Classifier(path, sys.argv[3])(image)
        assert 0 <= prediction.probability <= 1 and prediction.label, prediction
        print("prediction", flush=True)
    except InputError as err:
        assert str(err).startswith(str(path)), err
        print("error", flush=True)
"""
_WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def flip(data, rng):
    changed = bytearray(data)
    for place in rng.integers(0, len(data), rng.integers(1, 9)):
        changed[place] ^= 1 << rng.integers(8)
    return bytes(changed)


def truncate(data, rng):
    return data[: rng.integers(0, len(data))]


def splice(data, rng):
    """Removes, repeats or moves a part."""
    a, b, c = sorted(rng.integers(0, len(data), 3))
    return (data[:a] + data[b:], data[:b] + data[a:], data[:a] + data[b:c] + data[a:b] + data[c:])[
        rng.integers(3)
    ]


def replace_number(data, rng):
    """Replaces a number near the start or end, where lengths and offsets are."""
    width = int(rng.choice([2, 4]))
    reach = min(len(data) - width, 200)
    place = int(rng.integers(reach) if rng.integers(2) else len(data) - width - rng.integers(reach))
    word = int(rng.choice(_WORDS)) % (1 << 8 * width)
    order = "<>"[rng.integers(2)]
    return data[:place] + struct.pack(order + {2: "H", 4: "I"}[width], word) + data[place + width :]


def corrupt(data, rng):
    for _ in range(rng.integers(1, 3)):
        kinds = (flip, truncate, splice, replace_number, replace_number)
        data = (kinds[rng.integers(5)](data, rng) or b"\0").ljust(8, b"\0")
    return data


@pytest.fixture(scope="module")
def images():
    """Bytes by suffix, one image of each format."""
    rng = np.random.default_rng(1)
    found = {}
    for suffix, (form, mode, options) in _FORMATS.items():
        pixels = rng.integers(0, 256, (24, 30), dtype=np.uint8)
        image = (
            Image.fromarray(pixels.astype(np.uint16) * 257)
            if mode == "I;16"
            else Image.fromarray(pixels)
        )
        file = io.BytesIO()
        (image if mode == "I;16" else image.convert(mode)).save(file, form, **options)
        found[suffix] = file.getvalue()
    return found


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )


def test_corrupt_images(models, images, tmp_path):
    rng = np.random.default_rng(2)
    for number in range(50):
        for suffix, content in images.items():
            (tmp_path / f"{number:03}.{suffix}").write_bytes(corrupt(content, rng))
    done = run(_CLI, "predict", "--json", "--model", models["int8"], tmp_path)
    assert done.returncode == 1, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 50 * len(images)
    for row in rows:
        assert (
            row.get("error", "-").strip()
            if "error" in row
            else row["label"] in ("NORMAL", "PNEUMONIA")
        )
    predicted = sum("label" in row for row in rows)
    assert 20 < predicted < len(rows) - 100


def test_intact_images(models, images, tmp_path):
    for suffix, content in images.items():
        (tmp_path / f"x.{suffix}").write_bytes(content)
    assert run(_CLI, "predict", "--model", models["int8"], tmp_path).returncode == 0


def run_models(folder, image, name):
    """Returns "prediction" or "error" for each model of a folder, by name."""
    done = run(_RUN_MODELS, folder, image, name)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{lines[-1:]}: code {done.returncode}, {done.stderr[-2000:]}"
    found = dict(line.split() for line in lines)
    assert len(found) == len(list(folder.iterdir()))
    return found


@pytest.mark.parametrize("name", runtime.installed_runtimes())
@pytest.mark.parametrize("model", ["int8", "three"])
def test_corrupt_models(models, draw, tmp_path, model, name):
    """An error for each of 400 corrupt files whose flatbuffer has changed, and no crash."""
    rng = np.random.default_rng(3)
    content = models[model].read_bytes()
    end = zip_start(content)
    folder = tmp_path / "models"
    folder.mkdir()
    for number in range(200):
        flatbuffer = content[:end]
        while flatbuffer[:end] == content[:end]:  # a corruption may change nothing
            flatbuffer = corrupt(content[:end], rng)
        place = rng.integers(8, end)
        flipped = content[:place] + bytes([content[place] ^ 1 << rng.integers(8)])
        changed = {
            "byte": flipped + content[place + 1 :],
            "flatbuffer": flatbuffer + content[end:],
            "zip": content[:end] + corrupt(content[end:], rng),
        }
        for kind, data in changed.items():
            (folder / f"{kind}-{number:03}.tflite").write_bytes(data)
    (folder / "intact.tflite").write_bytes(content)
    outcomes = run_models(folder, draw("x.png", 120), name)
    assert outcomes.pop("intact.tflite") == "prediction"
    of_flatbuffer = [outcomes[path] for path in outcomes if not path.startswith("zip")]
    assert of_flatbuffer == ["error"] * 400
    of_zip = [outcomes[path] for path in outcomes if path.startswith("zip")]
    assert of_zip.count("error") > 150  # others changed bytes that nothing reads


@pytest.mark.parametrize("name", runtime.installed_runtimes())
def test_truncated_models(models, draw, tmp_path, name):
    """An error for each of 100 model files and 100 raw flatbuffers cut short, and no crash."""
    content = models["int8"].read_bytes()
    flatbuffer = content[: zip_start(content)]
    folder = tmp_path / "models"
    folder.mkdir()
    for kind, data in (("file", content), ("raw", flatbuffer)):
        for number, length in enumerate(np.linspace(0, len(data) - 1, 100).astype(int)):
            (folder / f"{kind}-{number:03}.tflite").write_bytes(data[:length])
    (folder / "raw-complete.tflite").write_bytes(flatbuffer)
    outcomes = run_models(folder, draw("x.png", 120), name)
    assert list(outcomes.values()) == ["error"] * 201


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"size":' + "9" * 5_000 + "}",
        "null",
        "\ufeff{}",
        '{"format": 1e999}',
        "\0" * 1_000,
    ],
)
def test_invalid_model_json(models, draw, tmp_path, text):
    content = models["int8"].read_bytes()
    buffer = io.BytesIO(content[: zip_start(content)])
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("labels.txt", "NORMAL\nPNEUMONIA\n")
        archive.writestr("model.json", text)
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "x.tflite").write_bytes(buffer.getvalue())
    assert run_models(folder, draw("x.png", 120), "auto") == {"x.tflite": "error"}


def zip_start(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return min(entry.header_offset for entry in archive.infolist())
