"""Properties of all models, and of `edge`."""

import re

import keras
import numpy as np
import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.export.convert import to_tflite
from cxr_tfds.export.operators import operator_versions
from cxr_tfds.models import MODELS, build_model, check_shape, list_models, multiply_adds

# tflite-runtime 2.14 and LiteRT have per-channel int8 kernels for these.
QUANTIZABLE = {"CONV_2D", "ADD", "MUL", "MEAN", "FULLY_CONNECTED"}
SMALL = {name: entry for name, entry in MODELS.items() if not entry.pretrained}


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (8, 64, 64, 1), np.uint8)


def smallest(name):
    entry = MODELS[name]
    return (entry.smallest, entry.smallest, (entry.channels or (1,))[0])


def test_edge_is_small():
    assert build_model("edge", (224, 224, 1), 1).count_params() <= 400_000


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("logits", [1, 3])
def test_number_of_logits(name, logits):
    model = build_model(name, smallest(name), logits)
    assert model.name == name
    assert model.input_shape == (None, *smallest(name))
    assert model.output_shape == (None, logits)
    assert model.layers[-1].name == "logits"
    assert model.layers[-1].activation is keras.activations.linear


@pytest.mark.parametrize("shape", [(96, 96, 3), (100, 100, 1)])
def test_edge_takes_any_size_and_channels(shape):
    assert build_model("edge", shape, 5).output_shape == (None, 5)


@pytest.mark.parametrize("name", SMALL)
def test_registry_states_the_cost(name):
    model = build_model(name, MODELS[name].shape, 1)
    assert (model.count_params(), multiply_adds(model)) == (
        MODELS[name].parameters,
        MODELS[name].multiply_adds,
    )


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_logits_and_weights_are_float32_under_every_policy(policy, pixels):
    keras.config.set_dtype_policy(policy)
    try:
        model = build_model("edge", (64, 64, 1), 1)
    finally:
        keras.config.set_dtype_policy("float32")
    logits = model(pixels)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert {variable.dtype for variable in model.weights} == {"float32"}
    assert model.predict_on_batch(pixels).dtype == np.float32


def test_outputs_are_logits(pixels):
    model = build_model("edge", (64, 64, 1), 1)
    dense = model.get_layer("logits")
    dense.bias.assign([7.0])
    assert np.asarray(model(pixels)).min() > 1


@pytest.mark.parametrize("name", SMALL)
def test_model_scales_pixels_and_contains_nothing_random(name):
    model = build_model(name, smallest(name), 1)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds[:2] == ["InputLayer", "Rescaling"]
    assert not [kind for kind in kinds if "Random" in kind or "Augment" in kind]
    scaled = model.layers[1](np.array([0, 255], np.uint8).reshape(1, 1, 2, 1))
    np.testing.assert_allclose(np.asarray(scaled).ravel(), [0, 1], atol=1e-6)


def test_uint8_and_float_pixels_give_equal_logits(pixels):
    model = build_model("edge", (64, 64, 1), 1)
    np.testing.assert_array_equal(
        np.asarray(model(pixels)), np.asarray(model(pixels.astype(np.float32)))
    )


def test_multiply_adds_worked_by_hand():
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3),  # 6 x 6 positions, 3 x 3 x 3 x 4 weights: 3,888
            layers.BatchNormalization(),
            layers.Conv2D(
                8, 3, strides=2, padding="same", groups=2
            ),  # 3 x 3 positions, 3 x 3 x 2 x 8: 1,296
            layers.DepthwiseConv2D(2),  # 2 x 2 positions, 2 x 2 x 8: 128
            layers.SeparableConv2D(5, 2),  # 1 position, 2 x 2 x 8 + 8 x 5: 72
            layers.Dense(7),  # 1 position, 5 x 7: 35
            layers.Flatten(),
            layers.Dense(2),  # 14
        ]
    )
    assert multiply_adds(model) == 3888 + 1296 + 128 + 72 + 35 + 14
    inside = keras.Sequential([keras.Input((8, 8, 3)), model])
    assert multiply_adds(inside) == multiply_adds(model)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (
            "edge",
            (31, 31, 1),
            "Model edge takes images of at least 32 x 32 pixels; the dataset has 31 x 31 x 1. "
            "Build a suitable one with your other settings and the config 224, or, if it holds "
            "source files (config original), add --size 224 --channels 1.",
        ),
        (
            "xray-cnn5",  # the published size
            (64, 64, 1),
            "at least 94 x 94 pixels and 1 channel; the dataset has 64 x 64 x 1. Build a suitable "
            """one with your other settings and --config '{"name": "500", "size": 500}', or, """
            "if it holds source files (config original), add --size 500 --channels 1.",
        ),
        (
            "covid-cnn4",  # the size it has
            (128, 128, 1),
            "at least 32 x 32 pixels and 3 channels; the dataset has 128 x 128 x 1. Build a "
            "suitable one with your other settings and "
            """--config '{"name": "128-rgb", "size": 128, "channels": 3}', or, if it holds """
            "source files (config original), add --size 128 --channels 3.",
        ),
        ("alexnet-gray", (224, 224, 3), "(config original), add --size 224 --channels 1."),
        ("densenet121", (31, 31, 2), "and 1 or 3 channels; the dataset has 31 x 31 x 2"),
        ("edg", (64, 64, 1), "Did you mean 'edge'?"),
        ("vgg", (64, 64, 1), "model: 'vgg' is not one of 'edge', 'xray-cnn5'"),
    ],
)
def test_refuses_images_that_do_not_fit(name, shape, message):
    for check in (check_shape, lambda *given: build_model(*given, 1)):
        with pytest.raises(InputError, match=re.escape(message)):
            check(name, shape)


@pytest.mark.parametrize("name", MODELS)
def test_accepts_published_and_smallest_images(name):
    check_shape(name, MODELS[name].shape)
    check_shape(name, smallest(name))
    with pytest.raises(InputError):
        check_shape(name, (MODELS[name].smallest - 1,) * 2 + smallest(name)[2:])
    assert MODELS[name].smallest >= 32


def test_list_of_models():
    head, *lines = list_models().splitlines()
    assert head.split() == ["model", "images", "parameters", "multiply-adds", "weights", "source"]
    assert [line.split()[0] for line in lines] == list(MODELS)
    assert lines[1].split()[:3] == ["xray-cnn5", "500x500x1", "1,467,137"]
    assert re.match(
        r"densenet121 +224x224x1 +7,0\d\d,\d{3} +2,\d{3} M +imagenet +https://arxiv.org/", lines[-2]
    )


@pytest.mark.slow
@pytest.mark.parametrize("logits", [1, 3])
def test_converts_to_quantizable_operators_only(logits, pixels):
    from ai_edge_litert.interpreter import Interpreter

    flatbuffer = to_tflite(build_model("edge", (64, 64, 1), logits), "int8", pixels)
    interpreter = Interpreter(model_content=flatbuffer)
    operators = set(operator_versions(flatbuffer))
    assert "CONV_2D" in operators
    assert operators <= QUANTIZABLE
    floats = [
        tensor["name"]
        for tensor in interpreter.get_tensor_details()
        if tensor["dtype"] == np.float32
    ]
    assert floats == []
