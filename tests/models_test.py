"""Models: size, logits, what is inside, and which operators remain after conversion."""

import keras
import numpy as np
import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.export.convert import to_tflite
from cxr_tfds.models import MODELS, build_model

# Per-channel int8 kernels for these stand in tflite-runtime 2.14 and LiteRT.
QUANTIZABLE = {"CONV_2D", "ADD", "MUL", "MEAN", "FULLY_CONNECTED", "DELEGATE"}


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (8, 64, 64, 1), np.uint8)


def test_edge_is_small():
    assert build_model("edge", (224, 224, 1), 2).count_params() <= 400_000


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("shape", "classes", "logits"),
    [((64, 64, 1), 2, 1), ((64, 64, 1), 3, 3), ((96, 96, 3), 5, 5), ((32, 32, 1), 2, 1)],
)
def test_one_logit_for_two_classes_and_one_a_class_for_more(name, shape, classes, logits):
    model = build_model(name, shape, classes)
    assert model.input_shape == (None, *shape)
    assert model.output_shape == (None, logits)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_logits_and_weights_are_float32_under_every_policy(policy, pixels):
    keras.config.set_dtype_policy(policy)
    try:
        model = build_model("edge", (64, 64, 1), 2)
    finally:
        keras.config.set_dtype_policy("float32")
    logits = model(pixels)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert {variable.dtype for variable in model.weights} == {"float32"}
    assert model.predict_on_batch(pixels).dtype == np.float32


def test_logits_are_no_probabilities(pixels):
    model = build_model("edge", (64, 64, 1), 2)
    dense = model.get_layer("logits")
    dense.bias.assign([7.0])
    assert np.asarray(model(pixels)).min() > 1
    assert dense.activation is keras.activations.linear


def test_the_pixel_range_is_inside_and_nothing_random():
    model = build_model("edge", (64, 64, 1), 2)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds[:2] == ["InputLayer", "Rescaling"]
    assert not [kind for kind in kinds if "Random" in kind or "Augment" in kind]
    scaled = model.layers[1](np.array([0, 255], np.uint8).reshape(1, 1, 2, 1))
    np.testing.assert_allclose(np.asarray(scaled).ravel(), [0, 1], atol=1e-6)


def test_uint8_and_float_pixels_give_the_same(pixels):
    model = build_model("edge", (64, 64, 1), 2)
    np.testing.assert_array_equal(np.asarray(model(pixels)), np.asarray(model(pixels.astype(np.float32))))


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("edge", 31, "model edge needs images of at least 32 pixels; the dataset has 31"),
        ("edg", 64, "model: 'edg' is not one of 'edge'. Did you mean 'edge'?"),
        ("resnet", 64, "model: 'resnet' is not one of 'edge'."),
    ],
)
def test_a_model_that_cannot_be_built(name, size, message):
    with pytest.raises(InputError) as caught:
        build_model(name, (size, size, 1), 2)
    assert message in str(caught.value)


@pytest.mark.parametrize("classes", [2, 3])
def test_only_quantizable_operators_remain(classes, pixels):
    from ai_edge_litert.interpreter import Interpreter

    flatbuffer = to_tflite(build_model("edge", (64, 64, 1), classes), "int8", pixels)
    interpreter = Interpreter(model_content=flatbuffer)
    operators = {operator["op_name"] for operator in interpreter._get_ops_details()}
    assert "CONV_2D" in operators
    assert operators <= QUANTIZABLE
    floats = [tensor["name"] for tensor in interpreter.get_tensor_details() if tensor["dtype"] == np.float32]
    assert floats == []
