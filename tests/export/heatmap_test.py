"""The class activation map: exact in float32, within int8 steps, at the right place."""

import subprocess
import sys

import numpy as np
import pytest
from helpers.splits import load_split

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError
from cxr_tfds.export import convert
from cxr_tfds.export.edge.runtime import installed_runtimes, load
from cxr_tfds.export.variants import with_heatmap
from cxr_tfds.models import build_model
from cxr_tfds.reading.run_data import open_run_dataset
from cxr_tfds.run_folder import RunConfig

pytestmark = pytest.mark.slow

SIZE, CELL = 64, 16
KINDS = ("float32", "float16", "int8", "int8-float-io", "int16x8")


def opacity(row, column):
    """A dim radiograph with one bright cell, uint8 (64, 64, 1)."""
    image = np.full((SIZE, SIZE, 1), 40, np.uint8)
    image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = 230
    return image


@pytest.fixture(scope="module")
def representative():
    ends = [np.zeros((SIZE, SIZE, 1), np.uint8), np.full((SIZE, SIZE, 1), 255, np.uint8)]
    return [*ends, *(opacity(row, column) for row in range(4) for column in range(4))]


def brightness_model(classes=2):
    """Returns a model of each cell's mean: bright adds to the last class, takes from the first."""
    import keras

    pixels = keras.Input((SIZE, SIZE, 1))
    maps = keras.layers.Conv2D(2, CELL, strides=CELL, name="cells")(pixels)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    slopes = (
        np.array([[1], [0.5]] if classes == 2 else [[-1, 0, 1], [-0.5, 0, 0.5]], np.float32) / 10
    )
    model = keras.Model(
        pixels, keras.layers.Dense(slopes.shape[1], name="logits")(pooled), name="brightness"
    )
    mean = np.full((CELL, CELL, 1, 2), 1 / CELL**2, np.float32)
    model.set_weights(
        [mean, np.zeros(2, np.float32), slopes, np.full(slopes.shape[1], -7, np.float32)]
    )
    return model


@pytest.fixture(scope="module")
def flatbuffers(representative):
    """Returns the brightness model of two classes in each format."""
    return convert.convert_each(with_heatmap(brightness_model()), KINDS, representative)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [(0, 0), (1, 3), (3, 2)])
def test_peaks_where_the_opacity_is(flatbuffers, kind, place):
    session = load(flatbuffers[kind], "litert")
    logits, heatmap = session.run_with_heatmap(opacity(*place)[np.newaxis])
    assert (heatmap.dtype, heatmap.shape) == (np.float32, (4, 4))
    assert np.unravel_index(heatmap.argmax(), heatmap.shape) == place
    # 230 and 40, times 0.15 of both filters.
    assert heatmap[place] == pytest.approx(34.5, abs=0.4)
    assert np.sort(heatmap.ravel())[:-1] == pytest.approx(6, abs=0.4)
    assert heatmap.mean() == pytest.approx(logits[0] + 7, abs=0.4)


def test_map_of_each_of_three_classes(representative):
    flatbuffer = convert.to_tflite(
        with_heatmap(brightness_model(classes=3)), "int8", representative
    )
    logits, heatmap = load(flatbuffer, "litert").run_with_heatmap(opacity(2, 1)[np.newaxis])
    assert (logits.shape, heatmap.shape) == ((3,), (4, 4, 3))
    assert np.unravel_index(heatmap[..., 2].argmax(), (4, 4)) == (2, 1)
    assert np.unravel_index(heatmap[..., 0].argmin(), (4, 4)) == (2, 1)
    np.testing.assert_allclose(heatmap.mean(axis=(0, 1)), logits + 7, atol=0.5)


@pytest.fixture(scope="module")
def images(run):
    return load_split(open_run_dataset(RunConfig.read(run)), "test").images[:12]


@pytest.fixture(scope="module")
def with_and_without(run, images):
    """Returns the model of `run` with and without a heat map, each as files by format."""
    model = run_folder.load_model(run)
    kinds = ("float32", "int8")
    return [convert.convert_each(each, kinds, images) for each in (with_heatmap(model), model)]


@pytest.mark.parametrize(("kind", "tolerance"), [("float32", 1e-4), ("int8", 0.2)])
def test_mean_of_the_map_is_the_logit_minus_the_bias(
    run, images, with_and_without, kind, tolerance
):
    bias = float(run_folder.load_model(run).layers[-1].bias[0])
    session, plain = (load(files[kind], "litert") for files in with_and_without)
    for image in images:
        logits, heatmap = session.run_with_heatmap(image[np.newaxis])
        assert heatmap.shape == (2, 2)
        assert heatmap.mean() + bias == pytest.approx(logits[0], abs=tolerance)
        np.testing.assert_array_equal(session.run(image[np.newaxis]), logits)
        found, none = plain.run_with_heatmap(image[np.newaxis])
        assert none is None
        np.testing.assert_array_equal(found, logits)


@pytest.mark.skipif("tflite-runtime" not in installed_runtimes(), reason="needs tflite-runtime")
@pytest.mark.parametrize("kind", ["float32", "int8", "int16x8"])
def test_same_map_in_tflite_runtime(flatbuffers, kind, tmp_path):
    flatbuffer = flatbuffers[kind]
    (tmp_path / "model").write_bytes(flatbuffer)
    np.save(tmp_path / "image.npy", opacity(1, 3)[np.newaxis])
    done = subprocess.run(
        [sys.executable, "-c", _RUN, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    _, expected = load(flatbuffer, "litert").run_with_heatmap(opacity(1, 3)[np.newaxis])
    np.testing.assert_allclose(np.load(tmp_path / "heatmap.npy"), expected, atol=0.2)


_RUN = """
import sys
from pathlib import Path
import numpy as np
from cxr_tfds.export.edge.runtime import load
folder = Path(sys.argv[1])
session = load((folder / "model").read_bytes(), "tflite-runtime")
np.save(folder / "heatmap.npy", session.run_with_heatmap(np.load(folder / "image.npy"))[1])
"""


def test_refuses_a_model_with_another_ending():
    import keras

    pixels = keras.Input((SIZE, SIZE, 1))
    flat = keras.layers.Dense(1)(keras.layers.Flatten()(pixels))
    with pytest.raises(
        InputError, match=r"ends in Flatten and Dense; expected GlobalAveragePooling2D and Dense"
    ):
        with_heatmap(keras.Model(pixels, flat))
    pooled = keras.layers.GlobalAveragePooling2D()(pixels)
    with pytest.raises(InputError, match="Dense without activation"):
        with_heatmap(keras.Model(pixels, keras.layers.Dense(1, activation="sigmoid")(pooled)))


def test_registered_models():
    for name, ending in (("pneumonia-cnn1", "Dense and Dense"), ("xray-cnn5", "Dense and Dense")):
        side, channels = (94, 1) if name == "xray-cnn5" else (32, 3)
        with pytest.raises(
            InputError, match=rf"{name} ends in {ending}; expected GlobalAveragePooling2D and Dense"
        ):
            with_heatmap(build_model(name, (side, side, channels), 1))
    assert with_heatmap(build_model("mobilenetv3-small", (64, 64, 1), 3)).output[
        "heatmap"
    ].shape == (None, 2, 2, 3)
