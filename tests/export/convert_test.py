"""Each format: what its tensors are, how large it is, and that both runtimes give Keras's logits."""

import dataclasses

import numpy as np
import pytest

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.scoring import open_run_dataset
from cxr_tfds.export import convert
from cxr_tfds.export.check import exported_answers
from cxr_tfds.export.edge import model_file
from cxr_tfds.export.edge.runtime import installed
from cxr_tfds.export.formats import FORMATS
from cxr_tfds.export.layers import layer_errors, quantized_except
from cxr_tfds.export.measure import in_process
from cxr_tfds.export.operators import operator_versions, too_new
from cxr_tfds.models import MODELS, build_model
from helpers.splits import load_split
from cxr_tfds.run_folder import RunConfig

# Logits of the tiny model differ from Keras's by at most so much.
TOLERANCE = {
    "float32": 1e-4,
    "float16": 0.02,
    "dynamic": 0.15,
    "int8": 0.3,
    "int8-float-io": 0.3,
    "int16x8": 0.15,
}


@pytest.fixture(scope="module")
def keras_model(run):
    return run_folder.load_model(run)


@pytest.fixture(scope="module")
def images(run):
    return load_split(open_run_dataset(RunConfig.read(run)), "train").images


@pytest.fixture(scope="module")
def flatbuffers(keras_model, images):
    return {name: convert.to_tflite(keras_model, name, images) for name in FORMATS}


def test_the_card_knows_the_formats():
    assert tuple(FORMATS) == model_file.QUANTIZATIONS


@pytest.mark.parametrize("name", FORMATS)
def test_tensors_in_and_out(flatbuffers, name):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=flatbuffers[name]).get_signature_runner("serving_default")
    image, logits = runner.get_input_details()["image"], runner.get_output_details()["logits"]
    assert np.dtype(image["dtype"]) == np.dtype(logits["dtype"]) == FORMATS[name].image
    if name == "int16x8":
        assert image["quantization"] == (pytest.approx(255 / 32767), 0)


def test_sizes(flatbuffers):
    size = {name: len(flatbuffer) for name, flatbuffer in flatbuffers.items()}
    assert size["float16"] < 0.55 * size["float32"]
    assert all(
        size[name] < 0.35 * size["float32"]
        for name in ("dynamic", "int8", "int8-float-io", "int16x8")
    )
    # The weights themselves: int8 in one, float32 in the other.
    assert size["int8"] < size["float32"] - 3 * 300_000


@pytest.mark.parametrize("name", FORMATS)
def test_litert_gives_the_logits_of_keras(flatbuffers, keras_model, images, name):
    expected = keras_model.predict_on_batch(images)[:, 0]
    np.testing.assert_allclose(
        exported_answers(flatbuffers[name], images), expected, atol=TOLERANCE[name]
    )


def wide_model():
    """A dense layer of 4,096 weights: below 1,024 they stay float32 in a dynamic model."""
    import keras

    pixels = keras.Input((64, 64, 1))
    pooled = keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(pixels))
    return keras.Model(pixels, keras.layers.Dense(1)(keras.layers.Dense(64)(pooled)))


def test_dense_layers_of_a_dynamic_model_are_old_enough(images, monkeypatch):
    assert too_new(convert.to_tflite(wide_model(), "dynamic", images)) is None
    per_channel = dataclasses.replace(FORMATS["dynamic"], dense_per_channel=True)
    monkeypatch.setitem(FORMATS, "dynamic", per_channel)
    assert too_new(convert.to_tflite(wide_model(), "dynamic", images)) == (
        "tflite-runtime 2.14 does not carry FULLY_CONNECTED version 12 (it carries up to 10)"
    )


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_old_enough_by_its_operators(flatbuffers, name):
    assert operator_versions(flatbuffers[name])["CONV_2D"] >= 1
    assert too_new(flatbuffers[name]) is None


@pytest.mark.skipif("tflite-runtime" not in installed(), reason="needs tflite-runtime")
@pytest.mark.parametrize("name", FORMATS)
def test_tflite_runtime_gives_the_logits_of_keras(flatbuffers, keras_model, images, name):
    expected = keras_model.predict_on_batch(images)[:, 0]
    found = in_process(flatbuffers[name], "tflite-runtime", images)
    assert found.version.startswith("2.14")
    np.testing.assert_allclose(found.answers, expected, atol=TOLERANCE[name])


def test_layers_kept_in_float32(flatbuffers, keras_model, images):
    convolution = next(layer.name for layer in keras_model.layers if "conv2d" in layer.name)
    kept = convert.to_tflite(keras_model, "int8", images, [convolution])
    weights = 7 * 7 * 32
    assert (
        len(flatbuffers["int8"]) + 2 * weights < len(kept) < len(flatbuffers["int8"]) + 4 * weights
    )
    versions = operator_versions(kept)
    assert {"QUANTIZE", "DEQUANTIZE"} <= versions.keys()
    assert "QUANTIZE" not in operator_versions(flatbuffers["int8"])
    assert too_new(kept) is None
    expected = keras_model.predict_on_batch(images)[:, 0]
    np.testing.assert_allclose(exported_answers(kept, images), expected, atol=TOLERANCE["int8"])


def test_formats_that_keep_no_layers_are_as_they_are(flatbuffers, keras_model, images):
    assert convert.to_tflite(keras_model, "float32", images, ["none"]) == flatbuffers["float32"]


@pytest.fixture(scope="module")
def errors(keras_model, images):
    """Of each layer of the model."""
    return layer_errors(convert.calibrated(keras_model, images), keras_model.name, images[:4])


@pytest.mark.parametrize("layer", ["conv9d", "logits"])
def test_layers_that_cannot_be_kept(errors, layer):
    with pytest.raises(InputError, match=rf"^--keep-float '{layer}' is not one of 'conv2d"):
        quantized_except(b"never looked at", errors, [layer], ())


def test_layers_have_their_names_in_keras_and_the_worst_comes_first(keras_model, errors):
    names = {error.layer for error in errors}
    assert len(names) == 12
    assert names <= {layer.name for layer in keras_model.layers}
    assert {
        layer.name
        for layer in keras_model.layers
        if "conv2d" in layer.name or layer.name == "logits"
    } <= names
    squares = [error.mean_squared_error for error in errors]
    assert squares == sorted(squares, reverse=True)
    assert all(0.05 < error.steps < 1 for error in errors)


def test_a_layer_that_was_spoiled_is_the_worst(keras_model, images):
    """One huge weight in a filter leaves the others in it no steps."""
    import keras

    spoiled = keras.models.clone_model(keras_model)
    spoiled.set_weights(keras_model.get_weights())
    convolution = [layer for layer in spoiled.layers if "conv2d" in layer.name][1]
    (kernel,) = convolution.get_weights()
    kernel[0, 0, 0, :] = 200 * np.abs(kernel).max()
    convolution.set_weights([kernel])
    errors = layer_errors(convert.calibrated(spoiled, images), spoiled.name, images[:4])
    assert max(errors, key=lambda error: error.steps).layer == convolution.name


@pytest.fixture(scope="module")
def lossy(keras_model):
    """The model with a channel that is always 0 and has huge weights behind it: nothing in float32, all in int8.

    Batch norm leaves such channels behind where training kills a filter. The second convolution then has no steps
    left for the weights that count.
    """
    import keras

    model = keras.models.clone_model(keras_model)
    model.set_weights(keras_model.get_weights())
    norm = next(
        layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)
    )
    gamma, beta, *statistics = norm.get_weights()
    gamma[0] = beta[0] = 0
    norm.set_weights([gamma, beta, *statistics])
    convolution = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)][1]
    (kernel,) = convolution.get_weights()
    kernel[:, :, 0, :] = 100 * np.abs(kernel).max()
    convolution.set_weights([kernel])
    return model, convolution.name


def test_keep_float_repairs_what_int8_loses(lossy, images):
    model, layer = lossy
    expected = model.predict_on_batch(images)[:, 0]
    np.testing.assert_allclose(
        exported_answers(convert.to_tflite(model, "float32", images), images), expected, atol=1e-4
    )

    def loss(flatbuffer):
        """Part of the logits' spread that is lost."""
        return np.std(exported_answers(flatbuffer, images) - expected) / np.std(expected)

    assert loss(convert.to_tflite(model, "int8", images)) > 0.3
    assert loss(convert.to_tflite(model, "int8", images, [layer])) < 0.1


@pytest.mark.parametrize(
    ("name", "kind", "part"),
    [
        ("pneumonia-cnn1", "float32", 1e-3),
        ("pneumonia-cnn1", "int8", 0.25),
        ("xray-cnn5", "int8", 0.25),
        ("covid-cnn4", "int8", 0.25),
        ("ct-cnn3", "int8", 0.25),
        ("alexnet-gray", "int8", 0.25),
    ],  # the networks of keras.applications take half a minute each
)
def test_registered_models(name, kind, part):
    """No operator of theirs is refused by the look at the structure or by tflite-runtime's table."""
    side, channels = MODELS[name].smallest, (MODELS[name].channels or (1,))[0]
    model = build_model(name, (side, side, channels), 3)
    pixels = np.random.default_rng(0).integers(0, 256, (16, side, side, channels), dtype=np.uint8)
    expected = model.predict_on_batch(pixels)
    flatbuffer = convert.to_tflite(model, kind, pixels)
    assert too_new(flatbuffer) is None
    found = exported_answers(flatbuffer, pixels)
    assert found.shape == (16, 3)
    assert np.abs(found - expected).max() <= part * np.abs(expected).max()
