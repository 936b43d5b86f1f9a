"""Networks of keras.applications: normalization, cost, freezing and conversion."""

import functools

import keras
import numpy as np
import pytest

from cxr_tfds.export.convert import to_tflite
from cxr_tfds.export.operators import explain_too_new
from cxr_tfds.models import MODELS, backbone_layers, build_model, multiply_adds
from cxr_tfds.models.backbones import BACKBONES, bare_network

pytestmark = pytest.mark.slow

# The module that holds the `preprocess_input` of a network.
MODULES = {
    "mobilenetv3-small": "mobilenet_v3",
    "mobilenetv3-large": "mobilenet_v3",
    "efficientnetv2-b0": "efficientnet_v2",
    "densenet121": "densenet",
    "resnet50v2": "resnet_v2",
}


@functools.cache  # each is built once, at the size of its entry
def model_of(name):
    return build_model(name, MODELS[name].shape, 1)


def test_every_pretrained_model_is_a_backbone():
    assert (
        {name for name, entry in MODELS.items() if entry.pretrained}
        == set(BACKBONES)
        == set(MODULES)
    )


@pytest.mark.parametrize("name", BACKBONES)
def test_registry_states_the_cost(name):
    model = model_of(name)
    assert (model.count_params(), multiply_adds(model)) == (
        MODELS[name].parameters,
        MODELS[name].multiply_adds,
    )


@pytest.mark.parametrize("name", BACKBONES)
def test_input_pooling_and_logits(name):
    model = model_of(name)
    assert (model.name, model.input_shape, model.output_shape) == (
        name,
        (None, 224, 224, 1),
        (None, 1),
    )
    pooling, logits = model.layers[-2:]  # what a class activation map needs
    assert isinstance(pooling, keras.layers.GlobalAveragePooling2D)
    assert (logits.name, logits.compute_dtype, logits.activation.__name__) == (
        "logits",
        "float32",
        "linear",
    )


@pytest.mark.parametrize("name", BACKBONES)
def test_normalizes_pixels_as_keras_does(name):
    model = model_of(name)
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    grey = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 1)).astype(np.float32)
    found = keras.Model(model.input, first.input)(grey)
    # The expected pixels come from the network itself if it normalizes, or `preprocess_input`.
    rgb = np.repeat(grey, 3, axis=-1)
    if BACKBONES[name].scale is None:
        body = bare_network(name, input_shape=(224, 224, 3))
        conv = next(layer for layer in body.layers if isinstance(layer, keras.layers.Conv2D))
        wanted = keras.Model(body.input, conv.input)(rgb)
    else:
        prepared = getattr(keras.applications, MODULES[name]).preprocess_input(rgb.copy())
        wanted = np.pad(
            prepared, ((0, 0), (3, 3), (3, 3), (0, 0))
        )  # both networks have padding layers
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_takes_colour_images_unchanged():
    model = build_model("mobilenetv3-small", (32, 32, 3), 3)
    assert (model.input_shape, model.output_shape) == ((None, 32, 32, 3), (None, 3))
    assert not [layer for layer in model.layers if isinstance(layer, keras.layers.Concatenate)]


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_layers_are_all_layers_of_the_network(name):
    names = backbone_layers(model_of(name))
    assert len(names) == len(set(names)) > 80
    assert "logits" not in names
    assert (
        sum(layer.count_params() for layer in model_of(name).layers if layer.name in names)
        == bare_network(name, input_shape=(32, 32, 3)).count_params()
    )


def test_frozen_backbone_keeps_weights_and_statistics():
    model = build_model("mobilenetv3-small", (32, 32, 1), 1)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1)).astype(np.float32)
    frozen = backbone_layers(model)
    for name in frozen:
        model.get_layer(name).trainable = False
    np.testing.assert_array_equal(model(images, training=True), model(images, training=False))
    before = {name: model.get_layer(name).get_weights() for name in [*frozen, "logits"]}
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    model.train_on_batch(images, np.ones((4, 1), np.float32))
    changed = [
        name
        for name, weights in before.items()
        if any(
            (old != new).any()
            for old, new in zip(weights, model.get_layer(name).get_weights(), strict=True)
        )
    ]
    assert changed == ["logits"]


def test_converts_to_operators_of_device_runtimes():
    from ai_edge_litert.interpreter import Interpreter

    model = build_model("mobilenetv3-small", (32, 32, 1), 1)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1), np.uint8)
    flatbuffer = to_tflite(model, "float32", [])
    assert explain_too_new(flatbuffer) is None
    run = Interpreter(model_content=flatbuffer).get_signature_runner()
    (logits,) = run(image=images[:1].astype(np.float32)).values()
    np.testing.assert_allclose(logits, model(images[:1]), atol=1e-4)
