"""The operating points that a visitor may choose."""

import dataclasses

import pytest

from cxr_tfds.export.edge.app.choices import list_choices


def point(rule, threshold):
    rates = {"sensitivity": 0.9, "specificity": 0.8, "positives": 10, "negatives": 5}
    return {"rule": rule, "threshold": threshold, **rates}


@pytest.fixture
def points():
    rules = {"youden": 0.6, "sensitivity>=0.90": 0.4, "sensitivity>=0.95": 0.4}
    return [point(rule, threshold) for rule, threshold in rules.items()]


def test_points_of_two_classes(two, points):
    info = dataclasses.replace(two.info, operating_points={"PNEUMONIA": points})
    own, youden, at_least = list_choices(info)
    assert own.text == "As exported: PNEUMONIA from 30.0 %"
    assert youden.text == "Highest sum of sensitivity and specificity: PNEUMONIA from 60.0 %"
    assert at_least.text == "Sensitivity of at least 90 %: PNEUMONIA from 40.0 %"
    assert [x.thresholds["PNEUMONIA"] for x in (own, youden, at_least)] == [0.3, 0.6, 0.4]
    assert "sensitivity 90.0 % and specificity 80.0 % on validation" in youden.note
    assert own.note == ""


def test_points_of_findings_move_together(findings, points):
    info = dataclasses.replace(findings.info, operating_points={"Bright": points, "Dark": []})
    own, youden, at_least = list_choices(info)
    assert own.thresholds == {"Bright": 0.5, "Dark": 0.5}
    assert youden.thresholds == {"Bright": 0.6, "Dark": 0.5}
    assert at_least.text == "Sensitivity of at least 90 %"


def test_a_file_without_points_or_threshold(two, three):
    assert [x.text for x in list_choices(two.info)] == ["As exported: PNEUMONIA from 30.0 %"]
    assert list_choices(three.info) == []
