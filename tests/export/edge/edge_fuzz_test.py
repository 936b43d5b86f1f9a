"""Damaged images and models end in an answer or a clear error: never another exception, a hang or a crash.

Each batch runs in a process of its own, where a crash of the interpreter is seen as one. Seeded: a
case that fails is named and comes again.
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

_LIMIT_S = 120
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
        answer = Classifier(path, sys.argv[3])(image)
        assert 0 <= answer.probability <= 1 and answer.label, answer
        print("answer", flush=True)
    except InputError as err:
        assert str(err).strip()
        print("error", flush=True)
"""
_WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_VALUES = (
    None,
    True,
    -1,
    0,
    2,
    4097,
    10**9,
    10**400,
    1e-320,
    1e308,
    "",
    "x",
    "\ud800",
    [],
    ["a"],
    ["a", "a"],
)
_VALUES += (
    ["a", "b", "c"],
    ["a", "b", 3],
    {},
    {"a": 1},
    [[[]]],
    float("nan"),
    float("inf"),
    "pad",
    33,
    3,
)


def flip(data, rng):
    changed = bytearray(data)
    for place in rng.integers(0, len(data), rng.integers(1, 9)):
        changed[place] ^= 1 << rng.integers(8)
    return bytes(changed)


def cut(data, rng):
    return data[: rng.integers(0, len(data))]


def splice(data, rng):
    """A part of it is left out, doubled or put elsewhere."""
    a, b, c = sorted(rng.integers(0, len(data), 3))
    return (data[:a] + data[b:], data[:b] + data[a:], data[:a] + data[b:c] + data[a:b] + data[c:])[
        rng.integers(3)
    ]


def lie(data, rng):
    """A number in it, most likely a length or an offset near either end, is another one."""
    width = int(rng.choice([2, 4]))
    reach = min(len(data) - width, 200)
    place = int(rng.integers(reach) if rng.integers(2) else len(data) - width - rng.integers(reach))
    word = int(rng.choice(_WORDS)) % (1 << 8 * width)
    order = "<>"[rng.integers(2)]
    return data[:place] + struct.pack(order + {2: "H", 4: "I"}[width], word) + data[place + width :]


def mutate(data, rng):
    for _ in range(rng.integers(1, 3)):
        data = (flip, cut, splice, lie, lie)[rng.integers(5)](data, rng) or b"\0"
        data = data.ljust(8, b"\0")
    return data


@pytest.fixture(scope="module")
def images():
    """Bytes by suffix, one of each format a radiograph may come in."""
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
        timeout=_LIMIT_S,
        check=False,
    )


def test_image_bytes(models, images, tmp_path):
    rng = np.random.default_rng(2)
    for number in range(50):
        for suffix, content in images.items():
            (tmp_path / f"{number:03}.{suffix}").write_bytes(mutate(content, rng))
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
    answered = sum("label" in row for row in rows)
    assert 20 < answered < len(rows) - 100  # both happen


def test_whole_images_are_answered(models, images, tmp_path):
    for suffix, content in images.items():
        (tmp_path / f"x.{suffix}").write_bytes(content)
    assert run(_CLI, "predict", "--model", models["int8"], tmp_path).returncode == 0


def outcomes(folder, image, name):
    """What became of each model in a folder, by its name."""
    done = run(_RUN_MODELS, folder, image, name)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{lines[-1:]}: code {done.returncode}, {done.stderr[-2000:]}"
    found = dict(line.split() for line in lines)
    assert len(found) == len(list(folder.iterdir()))
    return found


@pytest.mark.parametrize("name", runtime.installed_runtimes())
@pytest.mark.parametrize("model", ["int8", "three"])
def test_model_bytes(models, draw, tmp_path, model, name):
    rng = np.random.default_rng(3)
    content = models[model].read_bytes()
    zip_start = content.rindex(b"PK\x03\x04", 0, content.rindex(b"PK\x03\x04"))
    place = tmp_path / "models"
    place.mkdir()
    for number in range(100):
        (place / f"{number:03}-any.tflite").write_bytes(mutate(content, rng))
        behind = content[:zip_start] + mutate(content[zip_start:], rng)
        (place / f"{number:03}-zip.tflite").write_bytes(behind)
    (place / "stripped.tflite").write_bytes(content[:zip_start])
    (place / "whole.tflite").write_bytes(content)
    found = outcomes(place, draw("x.png", 120), name)
    assert found.pop("whole.tflite") == "answer"
    assert found.pop("stripped.tflite") == "error"
    assert sum(outcome == "error" for outcome in found.values()) > 150


@pytest.mark.parametrize("name", runtime.installed_runtimes())
def test_card_that_lies(models, draw, tmp_path, name):
    """The flatbuffer is whole; labels, size, threshold and the rest are not what they should be."""
    rng = np.random.default_rng(4)
    place = tmp_path / "models"
    place.mkdir()
    for model in ("int8", "three"):
        with zipfile.ZipFile(models[model]) as archive:
            fields, start = (
                json.loads(archive.read("model.json")),
                archive.getinfo("labels.txt").header_offset,
            )
        for key, value in (
            ("labels", fields["labels"][::-1]),
            ("threshold", 0.9),
            ("temperature", 2.0),
            ("x", 0),
        ):
            lie = carded(models[model].read_bytes()[:start], {**fields, key: value})
            (place / f"{model}-hashed-{key}.tflite").write_bytes(lie)
        del fields["flatbuffer"][
            "card"
        ]  # as in older files: nothing but its own checks guards a card
        for key in fields:
            for number, value in enumerate(_VALUES):
                changed = {**fields, key: value}
                if rng.integers(4) == 0:
                    changed[str(rng.choice(sorted(fields)))] = _VALUES[rng.integers(len(_VALUES))]
                path = place / f"{model}-{key}-{number:02}.tflite"
                path.write_bytes(carded(models[model].read_bytes()[:start], changed))
    found = outcomes(place, draw("x.png", 120), name)
    assert {"answer", "error"} == set(found.values())
    # Among the values are three labels and three channels, which are true of the model with three classes.
    wrong = (
        "int8-labels-",
        "int8-channels-",
        "int8-flatbuffer-",
        "three-flatbuffer-",
        "int8-hashed",
        "three-hashed",
    )
    assert not [
        path for path, outcome in found.items() if outcome == "answer" and path.startswith(wrong)
    ]


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
def test_card_that_is_no_card(models, draw, tmp_path, text):
    with zipfile.ZipFile(models["int8"]) as archive:
        start = archive.getinfo("labels.txt").header_offset
    place = tmp_path / "models"
    place.mkdir()
    (place / "x.tflite").write_bytes(carded(models["int8"].read_bytes()[:start], text))
    assert outcomes(place, draw("x.png", 120), "auto") == {"x.tflite": "error"}


def carded(flatbuffer, fields):
    """The flatbuffer with a `model.json` of any content."""
    text = fields if isinstance(fields, str) else json.dumps(fields)
    labels = fields.get("labels") if isinstance(fields, dict) else None
    buffer = io.BytesIO(flatbuffer)
    with zipfile.ZipFile(buffer, "a") as archive:
        named = labels if isinstance(labels, list) else ["NORMAL", "PNEUMONIA"]
        archive.writestr(
            "labels.txt", "".join(f"{label}\n" for label in named).encode("utf-8", "surrogatepass")
        )
        archive.writestr("model.json", text)
    return buffer.getvalue()
