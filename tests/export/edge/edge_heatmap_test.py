"""Heatmaps in `Prediction` and as PNG files of `cxr-infer predict --heatmap-dir`."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cxr_tfds.errors import InputError
from cxr_tfds.export.edge import runtime
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.model_file import append_model_info
from cxr_tfds.export.edge.predict import HeatmapFolder

pytestmark = pytest.mark.slow

# The logit is (mean grey - 100) / 10, and so is each place of the map, less the bias of -10.
_CONVERT = """
import sys
from pathlib import Path
import keras, numpy as np
from cxr_tfds.export.convert import to_tflite
from cxr_tfds.export.variants import with_heatmap
pixels = keras.Input((32, 32, 1))
maps = keras.layers.Conv2D(2, 4, strides=4, activation="relu")(pixels)
model = keras.Model(pixels, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(maps)))
kernel, head = np.full((4, 4, 1, 2), 1 / 16), np.full((2, 1), 0.05)
model.set_weights([kernel, np.zeros(2), head, np.full(1, -10.0)])
images = [np.full((32, 32, 1), grey, np.uint8) for grey in range(0, 256, 5)]
for name in ("float32", "int8"):
    (Path(sys.argv[1]) / name).write_bytes(to_tflite(with_heatmap(model), name, images))
"""


@pytest.fixture(scope="module")
def heated(tmp_path_factory, info):
    """Path by name of a model with a second output."""
    folder = tmp_path_factory.mktemp("heated")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", _CONVERT, str(folder)]
    done = subprocess.run(
        command, env=os.environ | quiet, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for path in folder.iterdir():
        with_map = dataclasses.replace(info, quantization=path.name, heatmap=True, grid=(8, 8))
        path.write_bytes(append_model_info(path.read_bytes(), with_map))
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def spot(tmp_path):
    """A dark image with one bright field, 8 x 8 of 32 x 32 pixels, in the lower left."""
    pixels = np.full((32, 32), 40, np.uint8)
    pixels[24:, :8] = 240
    path = tmp_path / "spot.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(("name", "within"), [("float32", 1e-3), ("int8", 0.3)])
def test_heatmap_by_hand(heated, spot, name, within):
    prediction = Classifier(heated[name])(spot)
    expected = np.full((8, 8), 4.0)
    expected[6:, :2] = 24
    assert prediction.heatmap.dtype == np.float32
    np.testing.assert_allclose(prediction.heatmap, expected, atol=within)
    logit = np.log(prediction.probability / (1 - prediction.probability))
    assert prediction.heatmap.mean() - 10 == pytest.approx(logit, abs=2 * within)


def test_heatmap_is_none_without_output(models, spot):
    assert Classifier(models["int8"])(spot).heatmap is None


def test_heatmap_of_the_label_for_three_classes(models, monkeypatch):
    maps = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    monkeypatch.setattr(
        runtime.Session, "run_with_heatmap", lambda *_: (np.array([0, 9, 1], np.float32), maps)
    )
    model = Classifier(models["three"])
    prediction = model.predict(np.zeros((32, 32, 3), np.uint8))
    assert prediction.label == "BACTERIA"
    np.testing.assert_array_equal(prediction.heatmap, maps[..., 1])


def test_writes_heatmaps_of_a_folder(heated, spot, tmp_path, infer):
    (tmp_path / "bad.png").write_bytes(b"")
    out = tmp_path / "new" / "maps"
    done = infer(
        "predict", "--model", heated["int8"], "--json", "--heatmap-dir", out, tmp_path, spot
    )
    assert done.exit_code == 1  # one file is empty
    assert len(json.loads(done.stdout)) == 3
    assert sorted(path.name for path in out.iterdir()) == [
        "000002-spot.png.png",
        "000003-spot.png.png",
    ]
    image = Image.open(out / "000002-spot.png.png")
    assert (image.mode, image.size) == ("RGB", (32, 32))
    drawn = np.asarray(image).astype(int)
    assert drawn[28, 4].sum() > 600
    assert (
        drawn[4, 28, 0] - drawn[4, 28, 2] > 10
    )  # the rest of the map is 1/6 as large: a touch of red


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("plain", "The model has no heat map. Export its run again with: cxr-export RUN --out "),
        ("heated", "is not empty. Choose"),
    ],
)
def test_refuses_heatmaps(models, heated, spot, tmp_path, model, message, infer):
    path = models["int8"] if model == "plain" else heated["int8"]
    done = infer("predict", "--model", path, "--heatmap-dir", tmp_path, spot)
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in done.stderr


@pytest.mark.parametrize("kept", ["胸" * 65 + ".png", "x" * 196 + ".png"])
def test_shortens_the_longest_names(heated, spot, tmp_path, infer, kept):
    """File systems count bytes, not characters."""
    name = kept[:1] * (83 if len(kept) < 100 else 251) + ".png"
    try:
        spot.rename(tmp_path / name)
    except OSError:
        pytest.skip("such names cannot be here")
    done = infer(
        "predict", "--model", heated["int8"], "--csv", "--heatmap-dir", tmp_path / "maps", tmp_path
    )
    assert done.exit_code == 0, done.output
    assert [path.name for path in (tmp_path / "maps").iterdir()] == [f"000001-{kept}.png"]


def test_file_names_are_not_kept_in_memory(heated, spot, tmp_path, infer, monkeypatch):
    """`pathlib` interns every part of a path, and Python 3.12 never frees them."""
    kept, intern = [], sys.intern
    spot.rename(tmp_path / "of-100000.png")
    monkeypatch.setattr(sys, "intern", lambda text: kept.append(text) or intern(text))
    done = infer(
        "predict", "--model", heated["int8"], "--csv", "--heatmap-dir", tmp_path / "maps", tmp_path
    )
    assert done.exit_code == 0, done.output
    assert tmp_path.name in kept  # the few names on the command line
    assert not [text for text in kept if "of-100000" in text]


def test_reports_a_heatmap_that_cannot_be_written(heated, spot, tmp_path):
    model = Classifier(heated["int8"])
    pixels = model.read(spot).pixels
    heatmaps = HeatmapFolder(tmp_path / "maps", model)
    (tmp_path / "maps").rmdir()
    (tmp_path / "maps").touch()  # nothing to remove either
    with pytest.raises(InputError, match=r"000001-x\.png cannot be written: Not a directory\.$"):
        heatmaps.write(1, "x", pixels, model.predict(pixels))


@pytest.mark.skipif(sys.platform == "win32", reason="no limits here")
def test_leaves_no_partial_heatmap(heated, spot, tmp_path, infer_apart):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
    done = infer_apart(
        "predict",
        "--model",
        heated["int8"],
        "--json",
        "--heatmap-dir",
        tmp_path / "maps",
        spot,
        before=limit,
    )
    assert (done.returncode, json.loads(done.stdout)) == (1, [])
    assert done.stderr.endswith("000001-spot.png.png cannot be written: File too large.\n")
    assert not list((tmp_path / "maps").iterdir())
