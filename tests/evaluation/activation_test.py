"""The class activation map: exact, and refused for models that have none."""

import keras
import numpy as np
import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.activation import activation_maps, class_activation


def model(*, dropout=False, classes=3):
    pixels = keras.Input((16, 16, 1))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(5, 3, strides=4)(pixels))
    pooled = keras.layers.Dropout(0.5)(pooled) if dropout else pooled
    return keras.Model(pixels, keras.layers.Dense(classes, bias_initializer="ones")(pooled))


@pytest.mark.parametrize("dropout", [False, True])
def test_mean_of_the_map_plus_bias_is_the_logit(dropout):
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 1), np.uint8)
    net = model(dropout=dropout)
    maps = activation_maps(net, images)
    assert (maps.shape, maps.dtype) == ((4, 4, 4, 3), np.float32)
    np.testing.assert_allclose(
        maps.mean(axis=(1, 2)) + 1, net.predict_on_batch(images), rtol=1e-3, atol=1e-2
    )


def test_refuses_other_endings():
    pixels = keras.Input((16, 16, 1))
    flat = keras.Model(pixels, keras.layers.Dense(1)(keras.layers.Flatten()(pixels)), name="flat")
    with pytest.raises(
        InputError,
        match=r"^flat ends in Flatten and Dense; expected GlobalAveragePooling2D and Dense",
    ):
        class_activation(flat)
    assert activation_maps(flat, np.zeros((1, 16, 16, 1), np.uint8)) is None
