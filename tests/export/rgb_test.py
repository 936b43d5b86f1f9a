"""`--variant rgb`: grey in the graph, probabilities out, standard metadata next to ours."""

import json

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner
from PIL import Image

from cxr_tfds.errors import InputError
from cxr_tfds.export.command import export
from cxr_tfds.export.convert import to_tflite
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.runtime import installed_runtimes
from cxr_tfds.export.formats import FORMATS, RGB_FORMATS
from cxr_tfds.export.inference import run_in_litert
from cxr_tfds.export.operators import explain_too_new
from cxr_tfds.export.pack import export_run
from cxr_tfds.export.rgb import GREY, with_grey, with_probabilities
from cxr_tfds.export.variants import Variant

pytestmark = pytest.mark.slow

SIZE = 32
as_rgb = Variant.RGB.prepare


def mean_model(classes=2, channels=1):
    """Returns a model with logit (v - 100) / 10 of the mean grey value v.

    The logits of three classes are (100 - v) / 10, 3 and (v - 100) / 10.
    """
    import keras

    pixels = keras.Input((SIZE, SIZE, channels))
    x = keras.layers.Conv2D(2, 1, name="weigh")(pixels)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(
        pixels, keras.layers.Dense(1 if classes == 2 else 3, name="logits")(x), name="mean"
    )
    slopes = np.array([[0.05], [0.05]] if classes == 2 else [[-0.05, 0, 0.05]] * 2, np.float32)
    bias = np.array([-10] if classes == 2 else [10, 3, -10], np.float32)
    model.set_weights(
        [
            np.full((1, 1, channels, 2), 1 / channels, np.float32),
            np.zeros(2, np.float32),
            slopes,
            bias,
        ]
    )
    return model


@pytest.fixture(scope="module")
def greys():
    """Returns one flat image of each grey value, uint8 (256, 32, 32, 1)."""
    return np.broadcast_to(
        np.arange(256, dtype=np.uint8)[:, None, None, None], (256, SIZE, SIZE, 1)
    )


@pytest.fixture(scope="module")
def bodies(greys):
    """Returns flatbuffers with logits, by format."""
    model = with_grey(mean_model())
    return {name: to_tflite(model, name, as_rgb(greys), rgb=True) for name in RGB_FORMATS}


def test_weights_are_close_to_pillow():
    assert GREY.sum() == 1
    corners = np.array(np.meshgrid(*[(0, 255)] * 3)).reshape(3, 8).T
    difference = corners @ (GREY - (0.299, 0.587, 0.114))  # linear, so largest in a corner
    assert 0.4 < np.abs(difference).max() <= 0.45


def test_grey_of_colours_equals_pillow_up_to_rounding():
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    pillow = np.asarray(Image.fromarray(pixels).convert("L")).astype(np.float64)
    assert np.abs(pixels @ GREY - pillow).max() <= 0.45 + 0.5
    assert np.abs(np.rint(pixels @ GREY) - pillow).max() == 1


def test_int8_holds_the_weights_exactly(bodies):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=bodies["int8"])
    interpreter.allocate_tensors()
    found = [t for t in interpreter.get_tensor_details() if t["shape"].tolist() == [1, 1, 1, 3]]
    assert [interpreter.get_tensor(t["index"]).ravel().tolist() for t in found] == [[65, 127, 25]]


@pytest.mark.parametrize("name", RGB_FORMATS)
def test_input_and_output_types(bodies, name):
    from ai_edge_litert.interpreter import Interpreter

    whole = with_probabilities(bodies[name], 2.0, ("a", "b"), "m")
    runner = Interpreter(model_content=whole).get_signature_runner("serving_default")
    image = runner.get_input_details()["image"]
    probabilities = runner.get_output_details()["probabilities"]
    assert (image["dtype"], image["shape"].tolist()) == (np.uint8, [1, SIZE, SIZE, 3])
    assert (probabilities["dtype"], probabilities["shape"].tolist()) == (np.float32, [1, 2])
    assert explain_too_new(whole) is None


@pytest.mark.parametrize("name", RGB_FORMATS)
def test_grey_images_give_the_logits_of_the_grey_variant(bodies, greys, name):
    expected = run_in_litert(to_tflite(mean_model(), name, greys), greys)
    found = run_in_litert(bodies[name], as_rgb(greys))
    # A step of the int8 output is 0.1; float16 rounds the weights of the grey.
    tolerance = {"int8": 0.11, "float16": 0.01}.get(name, 1e-4)
    np.testing.assert_allclose(found, expected, atol=tolerance)


@pytest.mark.parametrize(("name", "tolerance"), [("float32", 0.1), ("int8", 0.3)])
def test_colours_give_the_logits_of_their_grey(bodies, name, tolerance):
    colours = (
        np.random.default_rng(1)
        .integers(0, 256, (40, 1, 1, 3), dtype=np.uint8)
        .repeat(SIZE, 1)
        .repeat(SIZE, 2)
    )
    greys = np.stack([np.asarray(Image.fromarray(colour).convert("L")) for colour in colours]).mean(
        axis=(1, 2)
    )
    np.testing.assert_allclose(
        run_in_litert(bodies[name], colours), (greys - 100) / 10, atol=tolerance
    )


@pytest.mark.parametrize("name", RGB_FORMATS)
def test_probabilities_are_the_sigmoid_and_keep_the_order(bodies, greys, name):
    logits = run_in_litert(bodies[name], as_rgb(greys))
    found = run_in_litert(with_probabilities(bodies[name], 0.5, ("a", "b"), "m"), as_rgb(greys))
    np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp(-logits / 0.5)), rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert found[255, 0] == pytest.approx(
        np.exp(-31), rel=0.5
    )  # sigmoid(31) itself is 1 in float32
    np.testing.assert_allclose(0.5 * np.log(found[:, 1] / found[:, 0]), logits, atol=1e-4)
    # No step of the logits is lost at either end.
    assert len(np.unique(found[:, 0] / found[:, 1])) == len(np.unique(logits)) > 200


@pytest.mark.parametrize("name", ["float32", "int8"])
def test_three_classes_of_a_model_with_three_channels(greys, name):
    body = to_tflite(with_grey(mean_model(classes=3, channels=3)), name, as_rgb(greys), rgb=True)
    logits = run_in_litert(body, as_rgb(greys[::16]))
    np.testing.assert_allclose(logits[:, 2], (np.arange(0, 256, 16) - 100) / 10, atol=0.3)
    found = run_in_litert(with_probabilities(body, 2.0, ("a", "b", "c"), "m"), as_rgb(greys[::16]))
    powers = np.exp(logits / 2)
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_several_findings_have_a_sigmoid_each(greys, count):
    model = mean_model(classes=2 if count == 1 else 3)
    if count == 2:
        import keras

        zeros = keras.layers.Dense(2, kernel_initializer="zeros", bias_initializer="ones")
        model = keras.Model(model.input, zeros(model.layers[-2].output))
    body = to_tflite(with_grey(model), "float32", as_rgb(greys), rgb=True)
    logits = run_in_litert(body, as_rgb(greys[::16])).reshape(16, count)
    temperatures, labels = (2.0, 0.5, 1.5)[:count], ("a", "b", "c")[:count]
    whole = with_probabilities(body, temperatures, labels, "m", several_findings=True)
    found = run_in_litert(whole, as_rgb(greys[::16])).reshape(16, count)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits / temperatures)), rtol=1e-4)


def test_weights_are_aligned_and_a_buffer_holds_the_metadata(bodies):
    whole = with_probabilities(bodies["float32"], 1.0, ("a", "b"), "m")
    model = schema.Model.GetRootAsModel(whole, 0)
    held = [
        buffer
        for buffer in map(model.Buffers, range(model.BuffersLength()))
        if not buffer.DataIsNone()
    ]
    assert {buffer._tab.Vector(buffer._tab.Offset(4)) % 16 for buffer in held} == {0}
    entries = {
        entry.Name(): entry.Buffer() for entry in map(model.Metadata, range(model.MetadataLength()))
    }
    assert {b"TFLITE_METADATA", b"min_runtime_version"} <= entries.keys()
    assert model.Buffers(entries[b"TFLITE_METADATA"]).DataAsNumpy()[4:8].tobytes() == b"M001"


def test_keep_float_takes_keras_names(greys):
    kept = to_tflite(with_grey(mean_model()), "int8", as_rgb(greys), ["weigh"], rgb=True)
    np.testing.assert_allclose(
        run_in_litert(kept, as_rgb(greys)),
        run_in_litert(to_tflite(mean_model(), "float32", greys), greys),
        atol=0.2,
    )
    with pytest.raises(InputError, match=r"^--keep-float 'none' is not one of 'grey', 'weigh', "):
        to_tflite(with_grey(mean_model()), "int8", as_rgb(greys), ["none"], rgb=True)


def test_published_files(exported_rgb, exported):
    assert sorted(path.name for path in exported_rgb.iterdir()) == [
        "export.json",
        "tiny-float32-rgb.tflite",
        "tiny-int8-rgb.tflite",
    ]
    rows, grey = (
        json.loads((folder / "export.json").read_text())["files"]
        for folder in (exported_rgb, exported)
    )
    for row, other in zip(rows, grey, strict=True):
        assert [found["runtime"] for found in row["ran"]] == list(installed_runtimes())
        assert row["temperature"] == pytest.approx(other["temperature"], rel=0.1)
        for split in ("validation", "test"):
            mine, its = row["comparisons"][split], other["comparisons"][split]
            assert mine["auc_keras"] == its["auc_keras"]
            assert mine["auc"] == pytest.approx(its["auc"], abs=0.02)
            assert mine["agreement"] == pytest.approx(its["agreement"], abs=0.05)
            assert mine["max_difference"] <= its["max_difference"] + 0.01


@pytest.mark.parametrize(("kind", "tolerance"), [("float32", 1e-4), ("int8", 0.06)])
def test_device_predicts_as_with_the_grey_file(exported_rgb, exported, phantom, kind, tolerance):
    rgb, grey = (
        Classifier(exported_rgb / f"tiny-{kind}-rgb.tflite"),
        Classifier(exported / f"tiny-{kind}.tflite"),
    )
    assert (rgb.info.input, rgb.info.channels) == ("rgb", 3)
    assert rgb.info.labels == grey.info.labels
    for path in sorted((phantom / "chest_xray" / "test").glob("*/*"))[::4]:
        mine, its = rgb(path), grey(path)
        assert mine.probability == pytest.approx(its.probability, abs=tolerance)
        assert mine.probabilities["PNEUMONIA"] == mine.probability
        assert sum(mine.probabilities.values()) == pytest.approx(1)
        assert mine.label == rgb.labels[int(mine.probability >= mine.threshold)]
        assert mine.heatmap is None


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - set(RGB_FORMATS)))
def test_refuses_formats_without_rgb(run, tmp_path, name):
    with pytest.raises(
        InputError,
        match=rf"^The rgb variant takes uint8 and gives float32; {name} does not support this\. ",
    ):
        export_run(run, tmp_path / "out", (name,), variant="rgb")


def test_command_refuses_formats_without_rgb(run, tmp_path):
    arguments = [
        str(run),
        "--out",
        str(tmp_path / "out"),
        "--variant",
        "rgb",
        "--format",
        "int16x8",
    ]
    result = CliRunner().invoke(export, arguments)
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: The rgb variant takes uint8 and gives float32; int16x8 does not support this. "
        "Choose float32, float16, dynamic, int8.\n"
    )
    result = CliRunner().invoke(export, [*arguments[:4], "bgr"])
    assert result.exit_code == 2
    assert "'bgr' is not one of 'grey', 'plain', 'rgb'." in result.stderr
