"""Packed columns: the same outputs, from a convolution of several channels."""

import numpy as np
import pytest

from cxr_tfds.export.stem import pack_columns
from cxr_tfds.export.variants import with_heatmap
from cxr_tfds.models import build_model

pytestmark = pytest.mark.slow


def stem(kernel, stride, *, side=32, channels=1, padding="same"):
    """Returns a model of one convolution with random weights after a rescaling."""
    import keras

    pixels = keras.Input((side, side, channels), name="image")
    scaled = keras.layers.Rescaling(1 / 255, 0.1)(pixels)
    initializers = {"bias_initializer": "normal", "kernel_initializer": "normal"}
    layer = keras.layers.Conv2D(3, kernel, stride, padding, activation="relu", **initializers)
    return keras.Model(pixels, layer(scaled))


def kernel_shapes(model):
    return [layer.kernel.shape for layer in model.layers if hasattr(layer, "kernel")]


@pytest.mark.parametrize(
    ("kernel", "stride", "packed"),
    [
        (7, 4, (7, 3, 4, 3)),
        (4, 4, (4, 1, 4, 3)),  # without padding
        (2, 4, (2, 1, 4, 3)),  # reads some columns only
        (17, 4, (17, 5, 4, 3)),  # reaches two blocks to each side
        (9, 8, (9, 3, 8, 3)),
        ((5, 7), 4, (5, 3, 4, 3)),
    ],
)
def test_packed_columns_give_the_same_outputs(kernel, stride, packed):
    model = stem(kernel, stride)
    faster = pack_columns(model)
    assert kernel_shapes(faster) == [packed]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1)).astype(np.float32)
    expected = model.predict_on_batch(pixels)
    np.testing.assert_allclose(faster.predict_on_batch(pixels), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        lambda: stem(3, 2),
        lambda: stem(7, 4, side=30),
        lambda: stem(7, 4, channels=3),
        lambda: stem(7, 4, padding="valid"),
    ],
)
def test_other_stems_do_not_change(model):
    built = model()
    assert pack_columns(built) is built


def test_network_with_two_outputs():
    model = with_heatmap(build_model("edge", (64, 64, 1), 2))
    faster = pack_columns(model)
    assert faster.name == model.name
    assert [layer.name for layer in faster.layers] == [layer.name for layer in model.layers]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1)).astype(np.float32)
    expected, found = model.predict_on_batch(pixels), faster.predict_on_batch(pixels)
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4)
