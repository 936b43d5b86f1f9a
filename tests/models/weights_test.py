"""Trained weights: sources, layers they are loaded into, and refusals."""

import re
import sys
import urllib.error

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from cxr_tfds.errors import InputError
from cxr_tfds.models import backbone_layers, build_model, check_weights
from cxr_tfds.models.backbones import BACKBONES, bare_network

pytestmark = pytest.mark.slow

NAME, SHAPE = "mobilenetv3-small", (32, 32, 1)


def weights_of(model, names):
    return [weight for name in names for weight in model.get_layer(name).get_weights()]


def have_equal_weights(model, other):
    """Returns whether all weights except the logits' are equal."""
    pairs = zip(*(weights_of(m, backbone_layers(m)) for m in (model, other)), strict=True)
    return all((a == b).all() for a, b in pairs)


@pytest.fixture(scope="module")
def body():
    """Returns a network with weights that no initializer gives."""
    keras.utils.set_random_seed(1)
    model = bare_network(NAME, input_shape=(32, 32, 3))
    model.set_weights([weight + np.float32(0.25) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def files(body, tmp_path_factory):
    """Writes the weights in the current format and in that of `keras.applications`."""
    folder = tmp_path_factory.mktemp("weights")
    body.save_weights(folder / "body.weights.h5")
    with h5py.File(folder / "body.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, body)
    return folder


@pytest.mark.parametrize("file", ["body.weights.h5", "body.h5"])
def test_loads_a_file(file, files, body):
    model = build_model(NAME, SHAPE, 1, weights=str(files / file))
    assert len(weights_of(model, backbone_layers(model))) == len(body.get_weights())
    assert have_equal_weights(model, body)
    assert not have_equal_weights(build_model(NAME, SHAPE, 1), body)


def test_loads_weights_at_any_image_size(files, body):
    assert have_equal_weights(
        build_model(NAME, (64, 64, 3), 3, weights=str(files / "body.h5")), body
    )


def test_loads_imagenet_weights_that_keras_downloads(files, body, monkeypatch, capsys):
    def get_file(file, url, **options):
        sys.stdout.write("downloading\n")
        return str(files / "body.h5")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    assert have_equal_weights(build_model(NAME, SHAPE, 1, weights="imagenet"), body)
    assert capsys.readouterr() == ("", "downloading\n")


@pytest.mark.parametrize("name", BACKBONES)
def test_imagenet_weights_without_a_network(name, monkeypatch, tmp_path, capsys):
    urls = []

    def urlretrieve(url, *arguments):
        urls.append(url)
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))  # an empty cache
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", urlretrieve)
    check_weights(name, "imagenet")
    with pytest.raises(InputError) as caught:
        build_model(name, SHAPE, 1, weights="imagenet")
    (url,) = urls
    message = f"Cannot download the ImageNet weights of {name}: URL fetch failure on {url}"
    assert str(caught.value).startswith(message)
    assert "Download the file on a machine with a network" in str(caught.value)
    assert capsys.readouterr().out == ""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns a folder with the model.keras of `edge` for three classes."""
    keras.utils.set_random_seed(2)
    folder = tmp_path_factory.mktemp("run")
    build_model("edge", SHAPE, 3).save(folder / "model.keras")
    return folder


@pytest.mark.parametrize(("logits", "logits_too"), [(3, True), (1, False)])
def test_loads_a_run(run, logits, logits_too):
    trained = keras.saving.load_model(run / "model.keras")
    model = build_model("edge", (48, 48, 1), logits, weights=str(run / "model.keras"))
    assert have_equal_weights(model, trained)
    logits = [m.get_layer("logits").get_weights()[0] for m in (model, trained)]
    assert np.array_equal(*logits) == logits_too


def test_refuses_weights_a_model_does_not_have(tmp_path, run, files):
    check_weights("edge", "none")
    for name, weights, message in [
        ("edge", "imagenet", f"Model edge has no ImageNet weights; these models do: {NAME}"),
        ("edge", "absent.keras", "--weights absent.keras does not exist; expected none, imagenet "),
        (
            NAME,
            "absent.h5",
            "--weights absent.h5 does not exist; expected none, imagenet or a file",
        ),
        (NAME, str(tmp_path), f"--weights {tmp_path} is a folder; expected none, imagenet or a "),
        ("edge", str(files / "body.h5"), "edge takes the model.keras of a run of edge."),
        (NAME, __file__, f"takes the model.keras of a run of {NAME} or an .h5 file of its network"),
    ]:
        with pytest.raises(InputError, match=re.escape(message)):
            check_weights(name, weights)


def test_refuses_weights_of_another_model(run, files):
    for name, shape, weights, message in [
        (
            "pneumonia-cnn1",
            (32, 32, 3),
            run / "model.keras",
            "is of model edge; expected model pneu",
        ),
        (
            "edge",
            (32, 32, 3),
            run / "model.keras",
            "does not fit edge for images of 32 x 32 x 3; it is for images of 32 x 32 x 1.",
        ),
        (
            "mobilenetv3-large",
            (32, 32, 3),
            files / "body.h5",
            "does not hold the weights of MobileNetV3Large without its top layers",
        ),
        (
            "resnet50v2",
            (32, 32, 1),
            files / "body.weights.h5",
            "does not hold the weights of ResNet50V2 without its top layers",
        ),
    ]:
        with pytest.raises(InputError, match=re.escape(message)):
            build_model(name, shape, 1, weights=str(weights))


@pytest.mark.parametrize("file", ["body.h5", "body.weights.h5", "model.keras"])
def test_names_a_corrupt_file(tmp_path, file):
    (tmp_path / file).write_bytes(b"not what its name says")
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / file}") + " is corrupt"):
        build_model(NAME, SHAPE, 1, weights=str(tmp_path / file))
