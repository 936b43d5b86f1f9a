"""Small models whose output can be computed by hand, in several formats.

They take (1, 32, 32, C) and use only the mean grey value v. Two classes: logit = (v - 100) / 10.
Three: logits = ((100 - v) / 10, 3, (v - 100) / 10). `heatmap` has two classes and a map of 8 x 8.

TensorFlow and tflite-runtime run in separate processes: tflite-runtime 2.14 cannot load a model
after TensorFlow.
"""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cxr_tfds.export.edge.command import cli
from cxr_tfds.export.edge.model_file import ModelInfo, append_model_info

SIZE = 32
TWO = ModelInfo(
    labels=("NORMAL", "PNEUMONIA"),
    size=SIZE,
    channels=1,
    fit="stretch",
    threshold=0.5,
    temperature=1.0,
    quantization="int8",
    dataset={"name": "phantom", "version": "1.0.0"},
    run={"name": "by-hand"},
    metrics={"test": {"auc": 0.97}},
)
_POINT = {
    "rule": "youden",
    "threshold": 0.4,
    "sensitivity": 0.9,
    "specificity": 0.8,
    "positives": 40,
    "negatives": 40,
}


@pytest.fixture(scope="session")
def info():
    """Model info of the two-class int8 model."""
    return TWO


@pytest.fixture(scope="session")
def flatbuffers(tmp_path_factory):
    """Bytes by name: int8, float32, three (classes, int8), dynamic, heatmap (float32)."""
    folder = tmp_path_factory.mktemp("flatbuffers")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, __file__, folder],
        env=os.environ | quiet,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {path.stem: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="session")
def models(flatbuffers, tmp_path_factory):
    """Paths of model files by name."""
    infos = {
        "int8": TWO,
        "float32": dataclasses.replace(TWO, quantization="float32"),
        "three": dataclasses.replace(
            TWO, labels=("NORMAL", "BACTERIA", "VIRUS"), channels=3, threshold=None
        ),
        "dynamic": dataclasses.replace(TWO, quantization="float32"),
        "heatmap": dataclasses.replace(
            TWO,
            quantization="float32",
            heatmap=True,
            grid=(8, 8),
            reliability={"PNEUMONIA": {"images": [40, 3, 40], "positives": [1, 2, 39]}},
            operating_points={"PNEUMONIA": [_POINT]},
        ),
    }
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for name, info in infos.items():
        paths[name] = folder / f"{name}.tflite"
        paths[name].write_bytes(append_model_info(flatbuffers[name], info))
    return paths


# The logit is (mean grey - 100) / 10, and so is each place of the map, less the bias of -10.
_CONVERT_WITH_MAP = """
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


@pytest.fixture(scope="session")
def heated(tmp_path_factory, info):
    """Path by name of a model with a second output."""
    folder = tmp_path_factory.mktemp("heated")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", _CONVERT_WITH_MAP, str(folder)]
    done = subprocess.run(
        command, env=os.environ | quiet, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for path in folder.iterdir():
        with_map = dataclasses.replace(info, quantization=path.name, heatmap=True, grid=(8, 8))
        path.write_bytes(append_model_info(path.read_bytes(), with_map))
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def draw(tmp_path):
    """Writes an image of one grey value and returns its path."""

    def write(name, grey, *, folder=tmp_path, size=(48, 40)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(size, grey, np.uint8)).save(path)
        return path

    return write


@pytest.fixture
def test_set(tmp_path, draw):
    """Class folders of 12 images each, one of each misclassified, and another folder."""
    folder = tmp_path / "test"
    for index, grey in enumerate([20, 40, 60, 70, 80, 85, 90, 92, 94, 96, 40, 140]):
        draw(f"normal/{index}.png", grey, folder=folder)
        draw(f"Pneumonia/sub/{index}.png", 200 - grey, folder=folder)
    draw("other/x.png", 10, folder=folder)
    return folder


@pytest.fixture(scope="session")
def infer():
    """Runs `cxr-infer` in this process."""

    def run(*arguments, charset="utf-8", **more):
        return CliRunner(charset=charset).invoke(
            cli, [str(argument) for argument in arguments], **more
        )

    return run


@pytest.fixture(scope="session")
def command_line():
    """Returns a command line of `cxr-infer` that first runs the code `before`."""

    def line(*arguments, before=""):
        code = "from cxr_tfds.export.edge.command import cli; cli(prog_name='cxr-infer')"
        return [sys.executable, "-c", before + code, *map(str, arguments)]

    return line


@pytest.fixture(scope="session")
def infer_apart(command_line):
    """Runs `command_line`."""

    def run(*arguments, before="", **more):
        options = {"text": True, "check": False, **more}
        return subprocess.run(
            command_line(*arguments, before=before), capture_output=True, **options
        )

    return run


@pytest.fixture
def logits(flatbuffers, tmp_path):
    """Runs a model on pixels (M, 1, S, S, C) in a new process; returns (M, K)."""

    def run(name, runtime, pixels):
        flatbuffer, images, outputs = (
            tmp_path / part for part in ("model", "pixels.npy", "logits.npy")
        )
        flatbuffer.write_bytes(flatbuffers[name])
        np.save(images, pixels)
        done = subprocess.run(
            [sys.executable, "-c", _RUN, runtime, flatbuffer, images, outputs],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return np.load(outputs)

    return run


_RUN = """
import sys
from pathlib import Path
import numpy as np
from cxr_tfds.export.edge.runtime import load
runtime, model, images, outputs = sys.argv[1:]
session = load(Path(model).read_bytes(), runtime)
assert session.name == runtime
np.save(outputs, [session.run(pixels) for pixels in np.load(images)])
"""


def _keras_model(*, channels, classes, wide=False):
    import keras

    filters = 4
    inputs = keras.Input((SIZE, SIZE, channels))
    x = keras.layers.Conv2D(filters, 3, strides=2, activation="relu")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    if wide:  # dense layers below 1,024 weights stay float32 in a dynamic-range model
        x = keras.layers.Dense(1024, use_bias=False)(x)
    outputs = keras.layers.Dense(1 if classes == 2 else classes)(x)
    model = keras.Model(inputs, outputs)
    mean = np.full((3, 3, channels, filters), 1 / (9 * channels), np.float32)
    slopes = np.array([[1]] if classes == 2 else [[-1, 0, 1]], np.float32) / 10
    last = 1024 if wide else filters
    bias = -100 * slopes[0] + np.array([0] if classes == 2 else [0, 3, 0], np.float32)
    weights = [mean, np.zeros(filters, np.float32)]
    weights += [np.full((filters, 1024), 1 / filters, np.float32)] if wide else []
    model.set_weights([*weights, np.repeat(slopes / last, last, axis=0), bias])
    return model


def _convert(model, kind):
    import tempfile

    import keras
    import tensorflow as tf

    shape = (1, *model.input_shape[1:])
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default",
        lambda image: {"logits": model(image)},
        input_signature=[tf.TensorSpec(shape, tf.float32, name="image")],
    )
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=["serving_default"]
        )
        if kind != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "int8":
            converter.representative_dataset = lambda: (
                [np.full(shape, grey, np.float32)] for grey in range(0, 256, 5)
            )
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return converter.convert()


def _heatmap_model():
    import keras

    from cxr_tfds.export.variants import with_heatmap

    pixels = keras.Input((SIZE, SIZE, 1))
    maps = keras.layers.Conv2D(2, 4, strides=4, activation="relu")(pixels)
    model = keras.Model(pixels, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(maps)))
    kernel = np.full((4, 4, 1, 2), 1 / 16)
    model.set_weights([kernel, np.zeros(2), np.full((2, 1), 0.05), np.full(1, -10.0)])
    return with_heatmap(model)


def _write(folder):
    from cxr_tfds.export.convert import to_tflite

    two = _keras_model(channels=1, classes=2)
    flatbuffers = {
        "int8": _convert(two, "int8"),
        "float32": _convert(two, "float32"),
        "three": _convert(_keras_model(channels=3, classes=3), "int8"),
        "dynamic": _convert(_keras_model(channels=1, classes=2, wide=True), "dynamic"),
        "heatmap": to_tflite(_heatmap_model(), "float32", ()),
    }
    for name, content in flatbuffers.items():
        (folder / f"{name}.tflite").write_bytes(content)


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
