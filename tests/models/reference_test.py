"""The reference systems agree with their published descriptions, layer by layer."""

import numpy as np
import pytest

from cxr_tfds.models import build_model

LAYERS = {
    "xray-cnn5": "Conv2D MaxPooling2D " * 5 + "Flatten Dense Dense Dense",
    "covid-cnn4": "Conv2D " + "Conv2D MaxPooling2D Dropout " * 3 + "Flatten Dense Dropout Dense",
    "pneumonia-cnn1": "Conv2D MaxPooling2D Flatten Dense Dense",
    "ct-cnn3": "Conv2D BatchNormalization MaxPooling2D " * 3 + "Flatten Dense Dropout Dense",
    "alexnet-gray": "Conv2D MaxPooling2D Conv2D MaxPooling2D Conv2D Conv2D Conv2D MaxPooling2D "
    "Flatten Dense Dropout Dense Dropout Dense",
}


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("xray-cnn5", (500, 500, 1), 1_467_137),
        ("covid-cnn4", (224, 224, 3), 5_723_457),
        ("pneumonia-cnn1", (64, 64, 3), 3_937_409),
    ],
)
def test_published_number_of_parameters(name, shape, parameters):
    assert build_model(name, shape, 1).count_params() == parameters


@pytest.mark.parametrize(
    ("name", "shape", "units"),
    [
        ("xray-cnn5", (94, 94, 1), [32, 32, 32, 64, 64, 128, 64, 1]),
        ("covid-cnn4", (32, 32, 3), [32, 128, 64, 128, 64, 1]),
        ("pneumonia-cnn1", (32, 32, 3), [32, 128, 1]),
        ("ct-cnn3", (32, 32, 1), [32, 64, 128, 128, 1]),
        ("alexnet-gray", (57, 57, 1), [96, 256, 384, 384, 256, 1024, 1024, 1]),
    ],
)
def test_layers_and_their_sizes(name, shape, units):
    model = build_model(name, shape, 1)
    described = model.layers[2:]  # after the input and the scaling
    assert [type(layer).__name__ for layer in described] == LAYERS[name].split()
    assert [layer.bias.shape[0] for layer in described if hasattr(layer, "kernel")] == units
    hidden = [layer for layer in described if hasattr(layer, "kernel")][:-1]
    assert {layer.activation.__name__ for layer in hidden} == {"relu"}


@pytest.mark.parametrize("name", ["xray-cnn5", "covid-cnn4", "pneumonia-cnn1"])
def test_published_convolutions_are_3_x_3_without_padding(name):
    shape = (94, 94, 1) if name == "xray-cnn5" else (94, 94, 3)
    convolutions = [layer for layer in build_model(name, shape, 1).layers if "conv" in layer.name]
    assert {(layer.kernel_size, layer.padding) for layer in convolutions} == {((3, 3), "valid")}


def test_dropout_as_published():
    rates = [
        layer.rate
        for layer in build_model("covid-cnn4", (32, 32, 3), 1).layers
        if "dropout" in layer.name
    ]
    assert rates == [0.25, 0.25, 0.25, 0.5]


@pytest.mark.slow
@pytest.mark.parametrize(("side", "maps"), [(57, 1), (224, 6), (512, 5), (1400, 6)])
def test_alexnet_has_last_maps_of_at_most_6_x_6(side, maps):
    model = build_model("alexnet-gray", (side, side, 1), 1)
    (flatten,) = (layer for layer in model.layers if "flatten" in layer.name)
    assert flatten.output.shape == (None, maps * maps * 256)


@pytest.mark.parametrize("name", ["covid-cnn4", "ct-cnn3", "alexnet-gray"])
def test_drops_units_only_in_training(name):
    shape = {"covid-cnn4": (32, 32, 3), "ct-cnn3": (32, 32, 1), "alexnet-gray": (57, 57, 1)}[name]
    model = build_model(name, shape, 1)
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    np.testing.assert_array_equal(model(images), model(images, training=False))
    assert not np.allclose(model(images, training=True), model(images, training=True))
