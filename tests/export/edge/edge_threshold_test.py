"""The threshold is chosen on the device: a value, a rule or a sensitivity."""

import dataclasses
import json

import numpy as np
import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.model_file import ModelInfo, append_model_info, read_model
from cxr_tfds.export.edge.operating_point import choose_threshold, describe_threshold

POINTS = [
    {"rule": rule, "threshold": threshold, "sensitivity": sensitivity, "specificity": specificity}
    | {"positives": 40, "negatives": 80}
    for rule, threshold, sensitivity, specificity in [
        ("youden", 0.5, 0.9, 0.95),
        ("sensitivity>=0.95", 0.2, 0.95, 0.8),
        ("sensitivity>=0.99", 0.04, 1.0, 0.5),
    ]
]


@pytest.fixture
def pointed(flatbuffers, info, tmp_path):
    """A two-class model file that carries operating points."""
    path = tmp_path / "pointed.tflite"
    carrying = dataclasses.replace(info, operating_points={"PNEUMONIA": POINTS})
    path.write_bytes(append_model_info(flatbuffers["int8"], carrying))
    return path


def findings_info(**changes):
    return ModelInfo(
        labels=("Effusion", "Mass"),
        size=32,
        channels=1,
        fit="stretch",
        threshold=(0.4, 0.6),
        temperature=(1.0, 2.0),
        quantization="int8",
        several_findings=True,
        operating_points={"Effusion": POINTS, "Mass": []},
    )


@pytest.mark.parametrize(
    ("chosen", "threshold"),
    [
        ({}, 0.5),
        ({"threshold": 0.3}, 0.3),
        ({"threshold": "0.3"}, 0.3),
        ({"threshold": "youden"}, 0.5),
        ({"threshold": "sensitivity>=0.99"}, 0.04),
        ({"sensitivity": 0.95}, 0.2),
        ({"sensitivity": 0.93}, 0.2),
        ({"sensitivity": 0.96}, 0.04),
        ({"sensitivity": 0.5}, 0.5),
    ],
)
@pytest.mark.slow
def test_classifier_decides_at_the_chosen_threshold(pointed, draw, chosen, threshold):
    model = Classifier(pointed, **chosen)
    assert model.threshold == model.info.threshold == threshold
    prediction = model(draw("x.png", 86))  # logit -1.4: probability 0.2
    assert prediction.threshold == threshold
    assert (prediction.label == "PNEUMONIA") == (prediction.probability >= threshold)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"threshold": "yuden"}, "Did you mean 'youden'"),
        ({"threshold": 1.2}, "threshold=1.2; expected a number from 0 to 1"),
        ({"threshold": "nan"}, "threshold=nan; expected a number from 0 to 1"),
        ({"sensitivity": 95}, "sensitivity=95; expected a number from 0 to 1"),
        ({"threshold": 0.3, "sensitivity": 0.9}, "either a threshold or a sensitivity"),
    ],
)
def test_refuses_a_wrong_choice(info, chosen, message):
    carrying = dataclasses.replace(info, operating_points={"PNEUMONIA": POINTS})
    with pytest.raises(InputError, match=message):
        choose_threshold(carrying, **chosen)


def test_refuses_a_sensitivity_that_no_point_has(info):
    carrying = dataclasses.replace(info, operating_points={"PNEUMONIA": POINTS[:2]})
    with pytest.raises(InputError, match=r"the highest is 95.0 %\. The file has the points youden"):
        choose_threshold(carrying, sensitivity=0.96)


def test_files_without_points_take_a_value_only(info):
    assert choose_threshold(info, threshold=0.7).threshold == 0.7
    for chosen in ({"sensitivity": 0.9}, {"threshold": "youden"}):
        with pytest.raises(InputError, match="Export its run again with: cxr-export RUN"):
            choose_threshold(info, **chosen)


@pytest.mark.parametrize("chosen", [{"sensitivity": 0.9}, {"threshold": 0.5}])
def test_more_than_two_classes_have_no_threshold(info, chosen):
    three = dataclasses.replace(info, labels=("A", "B", "C"), threshold=None)
    with pytest.raises(InputError, match="most probable of 3 classes and has no threshold"):
        choose_threshold(three, **chosen)


def test_each_finding_takes_its_own_point():
    info = findings_info()
    # Mass has no points, so that it keeps its threshold.
    assert choose_threshold(info, sensitivity=0.95).threshold == (0.2, 0.6)
    assert choose_threshold(info, threshold=0.3).threshold == (0.3, 0.3)
    assert describe_threshold(choose_threshold(info, sensitivity=0.95)) == [
        "Effusion is predicted from 20.0 %: sensitivity 95.0 % and specificity 80.0 % on "
        "validation (40 images with Effusion, 80 without).",
        "Mass is predicted from 60.0 %.",
    ]


@pytest.mark.slow
def test_predict_uses_the_point_and_says_so(pointed, draw, infer):
    path = draw("x.png", 95)  # logit -0.5: probability 0.38
    done = infer("predict", "--model", pointed, path)
    assert done.stdout == f"PNEUMONIA  38 % (predicted from 50 %) → NORMAL     {path}\n"
    done = infer("predict", "--model", pointed, path, "--sensitivity", "0.95")
    assert done.stdout == f"PNEUMONIA  38 % (predicted from 20 %) → PNEUMONIA  {path}\n"
    assert done.stderr == (
        "PNEUMONIA is predicted from 20.0 %: sensitivity 95.0 % and specificity 80.0 % on "
        "validation (40 images with PNEUMONIA, 80 without).\nNot a medical device.\n"
    )
    done = infer("predict", "--model", pointed, path, "--threshold", "0.3", "--json")
    (row,) = json.loads(done.stdout)
    assert row["rule"] == {"class": "PNEUMONIA", "threshold": 0.3}
    assert done.stderr == "PNEUMONIA is predicted from 30.0 %.\n"
    done = infer(
        "predict", "--model", pointed, path, "--threshold", "youden", "--sensitivity", "0.9"
    )
    assert done.exit_code == 2
    assert "--threshold and --sensitivity exclude each other" in done.stderr


@pytest.mark.slow
def test_evaluate_measures_at_the_chosen_threshold(pointed, test_set, infer):
    found = {}
    for value in ("0.01", "0.5", "0.999"):
        done = infer("evaluate", "--model", pointed, test_set, "--json", "--threshold", value)
        assert done.exit_code == 0, done.stderr
        found[value] = json.loads(done.stdout)
        assert found[value]["threshold"] == float(value)
    rates = [found[value]["sensitivity"]["value"] for value in found]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 1 > rates[-1]


@pytest.mark.slow
def test_info_shows_the_points(pointed, infer):
    done = infer("info", "--model", pointed)
    assert (
        "Operating points, measured on validation (40 positive and 80 negative images):\n"
        "class      rule               threshold  sensitivity  specificity\n"
        "PNEUMONIA  youden                50.0 %       90.0 %       95.0 %\n"
        "PNEUMONIA  sensitivity>=0.95     20.0 %       95.0 %       80.0 %\n"
        "PNEUMONIA  sensitivity>=0.99      4.0 %      100.0 %       50.0 %\n"
    ) in done.stdout
    assert "operating_points:" not in done.stdout
    fields = json.loads(infer("info", "--model", pointed, "--json").stdout)
    assert fields["operating_points"] == {"PNEUMONIA": POINTS}


@pytest.mark.parametrize(
    "points",
    [[], {"PNEUMONIA": [{"threshold": 2}]}, {"OTHER": POINTS}, {"PNEUMONIA": "all"}],
)
def test_refuses_a_file_with_impossible_points(flatbuffers, info, points):
    good = append_model_info(flatbuffers["int8"], info)
    fields = dataclasses.asdict(read_model(good).info) | {"operating_points": points}
    with pytest.raises(InputError, match="operating_points"):
        ModelInfo(**fields)


@pytest.mark.parametrize("shift", [0.0, -3.7, 9.0])
@pytest.mark.slow
def test_the_shift_of_an_rgb_file_is_undone(flatbuffers, info, shift):
    rgb = dataclasses.replace(info, input="rgb", channels=3, shift=shift, threshold=0.25)
    model = Classifier(append_model_info(flatbuffers["three"], rgb))
    for logit in np.linspace(-20, 20, 41):
        shifted = np.float32(logit - shift)
        output = 1 / (1 + np.exp(np.array([shifted, -shifted], np.float32)))
        prediction = model.interpret(output)
        assert prediction.probability == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-4)
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
