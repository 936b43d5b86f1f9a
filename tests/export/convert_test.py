"""Each format: its tensors, its size, and logits close to Keras's in both runtimes."""

import dataclasses

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from helpers.splits import load_split

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError
from cxr_tfds.export import convert
from cxr_tfds.export.edge.runtime import installed_runtimes
from cxr_tfds.export.formats import FORMATS
from cxr_tfds.export.inference import run_in_litert
from cxr_tfds.export.measure import run_in_process
from cxr_tfds.export.operators import explain_too_new, operator_versions
from cxr_tfds.export.selective import SelectiveQuantizer
from cxr_tfds.models import MODELS, build_model
from cxr_tfds.reading.run_data import open_run_dataset
from cxr_tfds.run_folder import RunConfig

pytestmark = pytest.mark.slow

# Largest difference of the tiny model's logits from Keras's.
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
    return convert.convert_each(keras_model, tuple(FORMATS), images)


@pytest.mark.parametrize("name", FORMATS)
def test_input_and_output_types(flatbuffers, name):
    runner = Interpreter(model_content=flatbuffers[name]).get_signature_runner("serving_default")
    image, logits = runner.get_input_details()["image"], runner.get_output_details()["logits"]
    assert np.dtype(image["dtype"]) == np.dtype(logits["dtype"]) == FORMATS[name].input_type
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
def test_logits_in_litert(flatbuffers, keras_model, images, name):
    expected = keras_model.predict_on_batch(images)[:, 0]
    np.testing.assert_allclose(
        run_in_litert(flatbuffers[name], images), expected, atol=TOLERANCE[name]
    )


def wide_model():
    """Returns a model with a dense layer of 4,096 weights; below 1,024 they stay float32."""
    import keras

    pixels = keras.Input((64, 64, 1))
    pooled = keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(pixels))
    return keras.Model(pixels, keras.layers.Dense(1)(keras.layers.Dense(64)(pooled)))


def test_private_api_dense_per_channel_of_tensorflow_2_21(images, monkeypatch):
    """`_experimental_disable_per_channel_quantization_for_dense_layers` still works.

    Without it, tflite-runtime 2.14 runs no dynamic file.
    """
    assert explain_too_new(convert.to_tflite(wide_model(), "dynamic", images)) is None
    per_channel = dataclasses.replace(FORMATS["dynamic"], dense_per_channel=True)
    monkeypatch.setitem(FORMATS, "dynamic", per_channel)
    assert explain_too_new(convert.to_tflite(wide_model(), "dynamic", images)) == (
        "tflite-runtime 2.14 does not support FULLY_CONNECTED version 12 (highest: 10)"
    )


@pytest.mark.parametrize("name", FORMATS)
def test_tflite_runtime_supports_the_operators(flatbuffers, name):
    assert operator_versions(flatbuffers[name])["CONV_2D"] >= 1
    assert explain_too_new(flatbuffers[name]) is None


@pytest.mark.skipif("tflite-runtime" not in installed_runtimes(), reason="needs tflite-runtime")
@pytest.mark.parametrize("name", FORMATS)
def test_logits_in_tflite_runtime(flatbuffers, keras_model, images, name):
    expected = keras_model.predict_on_batch(images)[:, 0]
    found, outputs = run_in_process(flatbuffers[name], "tflite-runtime", images)
    assert found["version"].startswith("2.14")
    np.testing.assert_allclose(outputs, expected, atol=TOLERANCE[name])


@pytest.fixture(scope="module")
def kept(keras_model, images):
    """Returns int8 files whose first convolution is in float32."""
    convolution = next(layer.name for layer in keras_model.layers if "conv2d" in layer.name)
    return convert.convert_each(keras_model, ("int8", "int8-float-io"), images, [convolution])


def test_keep_float(flatbuffers, kept, keras_model, images):
    kept, weights, size = kept["int8"], 7 * 7 * 32, len(flatbuffers["int8"])
    assert size + 2 * weights < len(kept) < size + 4 * weights
    versions = operator_versions(kept)
    assert {"QUANTIZE", "DEQUANTIZE"} <= versions.keys()
    assert "QUANTIZE" not in operator_versions(flatbuffers["int8"])
    assert explain_too_new(kept) is None
    expected = keras_model.predict_on_batch(images)[:, 0]
    np.testing.assert_allclose(run_in_litert(kept, images), expected, atol=TOLERANCE["int8"])


@pytest.mark.skipif("tflite-runtime" not in installed_runtimes(), reason="needs tflite-runtime")
@pytest.mark.parametrize("name", ["int8", "int8-float-io"])
def test_keep_float_in_tflite_runtime(kept, keras_model, images, name):
    runner = Interpreter(model_content=kept[name]).get_signature_runner("serving_default")
    for tensor in (runner.get_input_details()["image"], runner.get_output_details()["logits"]):
        assert np.dtype(tensor["dtype"]) == FORMATS[name].input_type
    _, outputs = run_in_process(kept[name], "tflite-runtime", images)
    expected = keras_model.predict_on_batch(images)[:, 0]
    np.testing.assert_allclose(outputs, expected, atol=TOLERANCE["int8"])


def test_keep_float_does_not_change_float_formats(flatbuffers, keras_model, images):
    assert convert.to_tflite(keras_model, "float32", images, ["none"]) == flatbuffers["float32"]


@pytest.fixture(scope="module")
def quantizer(keras_model, flatbuffers, images):
    return SelectiveQuantizer(flatbuffers["float32"], keras_model.name, images)


@pytest.mark.parametrize("layer", ["conv9d", "logits"])
def test_keep_float_refuses_unknown_and_output_layers(quantizer, layer):
    with pytest.raises(InputError, match=rf"^--keep-float '{layer}' is not one of 'conv2d"):
        quantizer.quantize_except([layer], FORMATS["int8"])


def test_quantizer_and_converter_agree(quantizer, flatbuffers):
    """The scales and zero points of all activations but the two in front of an addition."""
    ours, theirs = (
        {
            tensor["name"]: tensor["quantization"]
            for tensor in tensors(flatbuffer)
            if tensor["dtype"] == np.int8 and tensor["quantization"][0]
        }
        for flatbuffer in (quantizer.quantize_except([], FORMATS["int8"]), flatbuffers["int8"])
    )
    assert ours.keys() == theirs.keys()
    different = [
        name
        for name, (scale, zero_point) in ours.items()
        if theirs[name] != (pytest.approx(scale, rel=1e-6), zero_point)
    ]
    assert len(different) == 2
    assert all("batch_normalization" in name for name in different)


def tensors(flatbuffer):
    interpreter = Interpreter(model_content=flatbuffer)
    interpreter.allocate_tensors()
    return interpreter.get_tensor_details()


def test_layer_errors_have_keras_names_and_are_sorted(quantizer, keras_model, images):
    errors = quantizer.layer_errors(images[:4])
    assert len(errors) == 12
    assert errors.keys() <= {layer.name for layer in keras_model.layers}
    computing = {layer.name for layer in keras_model.layers if "conv2d" in layer.name}
    assert computing | {"logits"} <= errors.keys()
    assert list(errors.values()) == sorted(errors.values(), reverse=True)
    assert all(0 < error < TOLERANCE["int8"] for error in errors.values())


@pytest.fixture(scope="module")
def lossy(keras_model):
    """Returns a model with a dead channel, and the layer that its huge weights spoil in int8.

    The channel is always 0, so float32 does not change. Batch norm leaves such channels behind if
    training kills a filter. The second convolution has no int8 steps left for the other weights.
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


def test_keep_float_repairs_the_worst_layer(lossy, images):
    model, layer = lossy
    expected = model.predict_on_batch(images)[:, 0]
    files = convert.convert_each(model, ("float32", "int8"), images)
    np.testing.assert_allclose(run_in_litert(files["float32"], images), expected, atol=1e-4)

    def loss(flatbuffer):
        """Returns the lost part of the logits' spread."""
        return np.std(run_in_litert(flatbuffer, images) - expected) / np.std(expected)

    quantizer = SelectiveQuantizer(files["float32"], model.name, images[:16])
    assert next(iter(quantizer.layer_errors(images[:8]))) == layer
    assert loss(files["int8"]) > 0.3
    assert loss(quantizer.quantize_except([layer], FORMATS["int8"])) < 0.1


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
    """Registered models convert to operators that tflite-runtime supports."""
    side, channels = MODELS[name].smallest, (MODELS[name].channels or (1,))[0]
    model = build_model(name, (side, side, channels), 3)
    pixels = np.random.default_rng(0).integers(0, 256, (16, side, side, channels), dtype=np.uint8)
    expected = model.predict_on_batch(pixels)
    flatbuffer = convert.to_tflite(model, kind, pixels)
    assert explain_too_new(flatbuffer) is None
    found = run_in_litert(flatbuffer, pixels)
    assert found.shape == (16, 3)
    assert np.abs(found - expected).max() <= part * np.abs(expected).max()
