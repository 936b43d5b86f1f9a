"""From image file to prediction, and from many threads at once."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cxr_tfds.errors import BadImage, InputError, MissingData
from cxr_tfds.export.edge import input_files
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.model_file import append_model_info


def test_prediction_by_hand(models, draw):
    model = Classifier(models["float32"])
    answer = model(draw("x.png", 120))
    assert answer.label == "PNEUMONIA"
    assert answer.probability == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-5)
    assert answer.threshold == 0.5
    assert answer.probabilities == pytest.approx((1 - answer.probability, answer.probability))
    assert (model.labels, model.info.size) == (("NORMAL", "PNEUMONIA"), 32)
    assert model.runtime in ("litert", "tflite-runtime")


def test_below_the_threshold_the_probability_is_still_the_findings(models, draw):
    answer = Classifier(models["float32"])(draw("x.png", 80))
    assert answer.label == "NORMAL"
    assert answer.probability == pytest.approx(1 / (1 + np.exp(2)), abs=1e-5)


def test_path_text_and_content_are_alike(models, draw):
    model, path = Classifier(str(models["int8"])), draw("x.jpg", 140)
    assert model(path) == model(str(path)) == model(path.read_bytes())
    assert Classifier(models["int8"].read_bytes())(path) == model(path)


def test_threshold_and_temperature_of_the_card_count(flatbuffers, card, draw):
    changed = dataclasses.replace(card, threshold=0.9, temperature=2.0, quantization="float32")
    answer = Classifier(append_model_info(flatbuffers["float32"], changed))(draw("x.png", 120))
    assert answer.probability == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-5)
    assert answer.label == "NORMAL"


@pytest.mark.parametrize(
    ("logit", "label"), [(0.0, "PNEUMONIA"), (-1e-6, "NORMAL"), (1e4, "PNEUMONIA")]
)
def test_decision_at_the_threshold(models, logit, label):
    answer = Classifier(models["int8"]).interpret(np.array([logit], np.float32))
    assert answer.label == label
    assert 0 <= answer.probability <= 1


@pytest.mark.parametrize(("grey", "label"), [(40, "NORMAL"), (200, "VIRUS")])
def test_three_classes(models, draw, grey, label):
    answer = Classifier(models["three"])(draw("x.png", grey))
    assert (answer.label, answer.threshold) == (label, None)
    assert answer.probability == max(answer.probabilities)
    assert sum(answer.probabilities) == pytest.approx(1)


def test_softmax_of_large_logits(models):
    answer = Classifier(models["three"]).interpret(np.array([1e4, 1e4, -1e4], np.float32))
    assert answer.probabilities == (0.5, 0.5, 0.0)
    assert answer.label == "NORMAL"


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_bad_image(models, content):
    with pytest.raises(BadImage):
        Classifier(models["int8"])(content)


def test_missing_image(models, tmp_path):
    with pytest.raises(MissingData, match=r"none\.png does not exist; expected an image file\.$"):
        Classifier(models["int8"])(tmp_path / "none.png")


def test_a_file_that_cannot_be_read_for_a_reason_without_a_number(tmp_path, monkeypatch):
    def fail(name):
        raise OSError("the disk is gone")

    monkeypatch.setattr(input_files, "read_file", fail)
    with pytest.raises(InputError, match=r"x\.tflite cannot be read: the disk is gone\.$"):
        Classifier(tmp_path / "x.tflite")


@pytest.mark.parametrize(
    "change", [{"size": 64}, {"channels": 3}, {"labels": ("a", "b", "c"), "threshold": None}]
)
def test_card_that_is_not_of_this_model(flatbuffers, card, change):
    foreign = append_model_info(flatbuffers["int8"], dataclasses.replace(card, **change))
    with pytest.raises(
        InputError, match=r"takes \(1, 32, 32, 1\) and gives 1 logits; its card says"
    ):
        Classifier(foreign)


def test_four_threads_answer_as_one(models, draw):
    model = Classifier(models["int8"])
    paths = [draw(f"{grey}.png", grey) for grey in range(0, 256, 16)] * 12
    alone = [model(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(model, paths)) == alone
