"""Unusual and unusable input of `cxr-infer`: predictions or one line of error."""

import json

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow


def one_pixel(path):
    Image.new("L", (1, 1), 200).save(path)


def one_pixel_wide(path):
    Image.new("L", (1, 20_000), 200).save(path)


def one_pixel_high(path):
    Image.new("L", (20_000, 1), 200).save(path)


def sixteen_bit(path):
    Image.fromarray(np.full((40, 30), 200 * 257, np.uint16)).save(path)


def cmyk(path):
    Image.new("CMYK", (40, 30), (0, 0, 0, 55)).save(path, "JPEG", quality=100)


def transparent(path):
    Image.new("LA", (40, 30), (200, 255)).save(path)


@pytest.mark.parametrize(
    "draw", [one_pixel, one_pixel_wide, one_pixel_high, sixteen_bit, cmyk, transparent]
)
def test_predicts_unusual_images(models, tmp_path, draw, infer_apart):
    path = tmp_path / "x.png"
    draw(path)
    done = infer_apart("predict", "--model", models["float32"], path, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (row,) = json.loads(done.stdout)
    assert row["probabilities"]["PNEUMONIA"] == pytest.approx(
        1 / (1 + np.exp(-10)), abs=1e-4
    )  # grey 200: logit 10


def animated(path):
    frames = [Image.new("L", (40, 30), grey) for grey in (0, 100, 200)]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])


def large(path):
    Image.new("RGB", (20_000, 6_000)).save(path, "PNG")


def larger(path):
    Image.new("1", (20_000, 12_000)).save(path, "PNG")


def text(path):
    path.write_text("no image")


def nothing(path):
    path.touch()


def half(path):
    Image.effect_noise((200, 200), 60).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("draw", "error"),
    [
        (animated, "more than one frame; expected one image"),
        (large, "20000 x 6000 pixels, which take 1,200 MB of memory to decode; expected at most"),
        (larger, "more than the 178,956,970 pixels that Pillow opens"),
        (text, "not an image in a known format"),
        (nothing, "empty file (0 bytes)"),
        (half, "cannot be decoded as JPEG: image file is truncated"),
    ],
)
def test_refuses_unusable_images(models, tmp_path, draw, error, infer_apart):
    path = tmp_path / "x.png"
    draw(path)
    done = infer_apart("predict", "--model", models["float32"], path, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)[0]["error"].startswith(error)
    assert [line.startswith(f"{path}: {error}") for line in done.stderr.splitlines()] == [
        True,
        False,
    ]
    assert done.stderr.endswith("Error: 1 of 1 images could not be read.\n")


@pytest.mark.parametrize(
    ("version", "ways"),
    [
        ((3, 11), "pip install 'cxr-tfds[edge]' or pip install 'cxr-tfds[tflite-runtime]'"),
        ((3, 13), "pip install 'cxr-tfds[edge]'"),
    ],
)
def test_without_runtime_prints_how_to_install_one(models, draw, version, ways, infer_apart):
    hide = (
        "import sys, importlib.util as u, click, numpy, PIL.Image; find = u.find_spec; "
        "u.find_spec = lambda name, *more: None if 'lite' in name else find(name, *more); "
        "from cxr_tfds.export.edge import runtime; "
        f"runtime.sys = type('sys', (), {{'version_info': {version}}}); "
    )
    done = infer_apart("predict", "--model", models["int8"], draw("x.png", 1), before=hide)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: No runtime is installed. Install one with: {ways}\n"


def test_refuses_nan_logits(models, draw, infer_apart):
    broken = "import numpy; from cxr_tfds.export.edge.runtime import Session; "
    broken += "Session.run_with_heatmap = lambda *_: (numpy.array([float('nan')]), None); "
    done = infer_apart(
        "predict", "--json", "--model", models["int8"], draw("x.png", 1), before=broken
    )
    assert done.returncode == 1
    assert json.loads(done.stdout) == []
    message = "The model returns [nan]; expected finite logits. Export it again with cxr-export."
    assert done.stderr == f"Error: {message}\n"
