"""Trained weights: from where, into which layers, and what is refused."""

import hashlib
import re
import urllib.error

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from cxr_tfds.errors import InputError
from cxr_tfds.models import backbone_layers, build_model, find_weights
from cxr_tfds.models.backbones import BACKBONES, WEIGHTS_URL, bare

NAME, SHAPE = "mobilenetv3-small", (32, 32, 1)


def weights_of(model, names):
    return [weight for name in names for weight in model.get_layer(name).get_weights()]


def same(model, other):
    """Whether all weights but the logits' are equal."""
    pairs = zip(*(weights_of(m, backbone_layers(m)) for m in (model, other)), strict=True)
    return all((a == b).all() for a, b in pairs)


@pytest.fixture(scope="module")
def body():
    """A network with weights unlike any that are drawn or set at its start."""
    keras.utils.set_random_seed(1)
    model = bare(NAME, input_shape=(32, 32, 3))
    model.set_weights([weight + np.float32(0.25) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def files(body, tmp_path_factory):
    """The same weights as Keras writes them today, and as it wrote those of `keras.applications`."""
    folder = tmp_path_factory.mktemp("weights")
    body.save_weights(folder / "body.weights.h5")
    with h5py.File(folder / "body.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, body)
    return folder


@pytest.fixture
def keras_home(monkeypatch, tmp_path):
    """An empty ~/.keras, and no network."""
    asked = []

    def no_network(url, *arguments):
        asked.append(url)
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", no_network)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path, asked


@pytest.mark.parametrize("file", ["body.weights.h5", "body.h5"])
def test_weights_of_a_file(file, files, body):
    model = build_model(NAME, SHAPE, 2, weights=str(files / file))
    assert len(weights_of(model, backbone_layers(model))) == len(body.get_weights())
    assert same(model, body)
    assert not same(build_model(NAME, SHAPE, 2), body)


def test_weights_fit_every_size_of_image(files, body):
    assert same(build_model(NAME, (64, 64, 3), 3, weights=str(files / "body.h5")), body)


def test_imagenet_weights_are_taken_from_where_keras_keeps_them(
    keras_home, files, body, monkeypatch, capsys
):
    folder, asked = keras_home
    content = (files / "body.h5").read_bytes()
    backbone = BACKBONES[NAME]._replace(md5=hashlib.md5(content).hexdigest())
    monkeypatch.setitem(BACKBONES, NAME, backbone)
    (folder / "models").mkdir()
    (folder / "models" / backbone.file).write_bytes(content)
    assert same(build_model(NAME, SHAPE, 2, weights="imagenet"), body)
    assert (asked, capsys.readouterr().out) == ([], "")


@pytest.mark.parametrize("name", BACKBONES)
def test_imagenet_weights_without_network(name, keras_home, capsys):
    folder, asked = keras_home
    url = f"{WEIGHTS_URL}{BACKBONES[name].folder}/{BACKBONES[name].file}"
    with pytest.raises(InputError) as caught:
        find_weights(name, "imagenet")
    message = str(caught.value)
    assert message.startswith(
        f"the ImageNet weights of {name} cannot be fetched: URL fetch failure on {url}"
    )
    assert (
        f"Download {url} where there is a network and put it at {folder / 'models' / BACKBONES[name].file}"
        in message
    )
    assert (asked, capsys.readouterr().out) == ([url], "")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The model.keras of a run of `edge`, for three classes."""
    keras.utils.set_random_seed(2)
    folder = tmp_path_factory.mktemp("run")
    build_model("edge", SHAPE, 3).save(folder / "model.keras")
    return folder


@pytest.mark.parametrize(("classes", "logits_too"), [(3, True), (2, False)])
def test_weights_of_a_run(run, classes, logits_too):
    trained = keras.saving.load_model(run / "model.keras")
    model = build_model("edge", (48, 48, 1), classes, weights=str(run / "model.keras"))
    assert same(model, trained)
    logits = [m.get_layer("logits").get_weights()[0] for m in (model, trained)]
    assert np.array_equal(*logits) == logits_too


def test_new_weights_need_no_file():
    assert find_weights("edge", "none") is None


def test_weights_a_model_has_not(tmp_path, run, files):
    for name, weights, message in [
        (
            "edge",
            "imagenet",
            f"model edge has no ImageNet weights; {', '.join(BACKBONES)} have. Give --weights none",
        ),
        (
            "edge",
            "absent.keras",
            "weights absent.keras do not exist; expected none, imagenet or a file.",
        ),
        (NAME, "absent.h5", "weights absent.h5 do not exist"),
        (
            NAME,
            str(tmp_path),
            f"weights {tmp_path}: a folder; expected a file, such as {tmp_path / 'model.keras'}.",
        ),
        ("edge", str(files / "body.h5"), "edge takes the model.keras of a run of edge."),
        (
            NAME,
            __file__,
            f"takes the model.keras of a run of {NAME}, or the .h5 of its network without the top layers",
        ),
    ]:
        with pytest.raises(InputError, match=re.escape(message)):
            find_weights(name, weights)


def test_weights_of_another_model(run, files):
    for name, shape, weights, message in [
        ("pneumonia-cnn1", (32, 32, 3), run / "model.keras", "of model edge; expected pneumonia-cnn1."),
        ("edge", (32, 32, 3), run / "model.keras", "do not fit edge for images of 32 x 32 x 3; they were trained "
         "on 32 x 32 x 1."),
        ("mobilenetv3-large", (32, 32, 3), files / "body.h5", "not those of MobileNetV3Large without its top layers"),
        ("resnet50v2", (32, 32, 1), files / "body.weights.h5", "not those of ResNet50V2 without its top layers"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=re.escape(message)):
            build_model(name, shape, 2, weights=str(weights))


@pytest.mark.parametrize("file", ["body.h5", "body.weights.h5", "model.keras"])
def test_damaged_weights(tmp_path, file):
    (tmp_path / file).write_bytes(b"not what its name says")
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / file}") + ".*damaged"):
        build_model(NAME, SHAPE, 2, weights=str(tmp_path / file))
