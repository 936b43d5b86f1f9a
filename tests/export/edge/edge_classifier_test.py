"""`Classifier`: image file to prediction, also from several threads."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from cxr_tfds.errors import BadImage, InputError, MissingData
from cxr_tfds.export.edge import classifier, input_files, runtime
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.model_file import append_model_info

pytestmark = pytest.mark.slow


def test_prediction_by_hand(models, draw):
    model = Classifier(models["float32"])
    prediction = model(draw("x.png", 120))
    assert prediction.label == "PNEUMONIA"
    assert prediction.probability == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-5)
    assert prediction.threshold == 0.5
    assert prediction.probabilities == pytest.approx(
        {"NORMAL": 1 - prediction.probability, "PNEUMONIA": prediction.probability}
    )
    assert prediction.positive == "PNEUMONIA"
    assert str(prediction) == "PNEUMONIA 88 % (predicted from 50 %) → PNEUMONIA"
    assert (model.labels, model.info.size) == (("NORMAL", "PNEUMONIA"), 32)
    assert model.runtime in ("litert", "tflite-runtime")


def test_probability_is_that_of_the_finding_below_the_threshold(models, draw):
    prediction = Classifier(models["float32"])(draw("x.png", 80))
    assert prediction.label == "NORMAL"
    assert prediction.probability == pytest.approx(1 / (1 + np.exp(2)), abs=1e-5)


def test_takes_path_string_and_bytes(models, draw):
    model, path = Classifier(str(models["int8"])), draw("x.jpg", 140)
    assert model(path) == model(str(path)) == model(path.read_bytes())
    assert Classifier(models["int8"].read_bytes())(path) == model(path)


def test_uses_threshold_and_temperature_of_the_info(flatbuffers, info, draw):
    changed = dataclasses.replace(info, threshold=0.9, temperature=2.0, quantization="float32")
    prediction = Classifier(append_model_info(flatbuffers["float32"], changed))(draw("x.png", 120))
    assert prediction.probability == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-5)
    assert prediction.label == "NORMAL"


@pytest.mark.parametrize(
    ("logit", "label"), [(0.0, "PNEUMONIA"), (-1e-6, "NORMAL"), (1e4, "PNEUMONIA")]
)
def test_decision_at_the_threshold(models, logit, label):
    prediction = Classifier(models["int8"]).interpret(np.array([logit], np.float32))
    assert prediction.label == label
    assert 0 <= prediction.probability <= 1


@pytest.mark.parametrize(("grey", "label"), [(40, "NORMAL"), (200, "VIRUS")])
def test_three_classes(models, draw, grey, label):
    prediction = Classifier(models["three"])(draw("x.png", grey))
    assert (prediction.label, prediction.threshold) == (label, None)
    assert prediction.positive is None
    assert prediction.probability == prediction.probabilities[label]
    assert prediction.probability == max(prediction.probabilities.values())
    assert sum(prediction.probabilities.values()) == pytest.approx(1)


def test_softmax_of_large_logits(models):
    prediction = Classifier(models["three"]).interpret(np.array([1e4, 1e4, -1e4], np.float32))
    assert prediction.probabilities == {"NORMAL": 0.5, "BACTERIA": 0.5, "VIRUS": 0.0}
    assert str(prediction) == "NORMAL 50 % (then BACTERIA 50 %) → NORMAL"
    assert prediction.label == "NORMAL"


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_raises_bad_image_with_its_path(models, tmp_path, content):
    model, path = Classifier(models["int8"]), tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(BadImage) as of_path:
        model(path)
    with pytest.raises(BadImage) as of_bytes:
        model(content)
    assert (of_path.value.path, of_bytes.value.path) == (str(path), None)
    assert str(of_path.value) == f"{path}: {of_bytes.value}"


def test_raises_missing_data(models, tmp_path):
    with pytest.raises(MissingData, match=r"none\.png does not exist; expected an image file\.$"):
        Classifier(models["int8"])(tmp_path / "none.png")


def test_reports_an_os_error_without_errno(tmp_path, monkeypatch):
    def fail(name):
        raise OSError("the disk is gone")

    monkeypatch.setattr(input_files, "read_regular_file", fail)
    with pytest.raises(InputError, match=r"x\.tflite cannot be read: the disk is gone\.$"):
        Classifier(tmp_path / "x.tflite")


def test_threads_give_equal_predictions(models, draw):
    model = Classifier(models["int8"])
    paths = [draw(f"{grey}.png", grey) for grey in range(0, 256, 16)] * 12
    alone = [model(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(model, paths)) == alone


def test_threads_predict_at_the_same_time_up_to_one_for_each_core(models, monkeypatch):
    monkeypatch.setattr(classifier, "core_count", lambda: 2)
    model, pixels = Classifier(models["int8"]), np.zeros((32, 32, 1), np.uint8)
    both, used = Barrier(2), set()
    run = runtime.Session.run_with_heatmap

    def meet(session, batch):
        used.add(id(session))
        both.wait(timeout=60)
        return run(session, batch)

    monkeypatch.setattr(runtime.Session, "run_with_heatmap", meet)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(model.predict, [pixels] * 8))
    assert len(used) == 2
