"""Operating points of a validation curve."""

import numpy as np
import pytest

from cxr_tfds.metrics.operating_points import RULES, choose_point, operating_points

# 20 positives at 0.05, 0.10 … 1.00 and 20 negatives 0.3 below them, from 0.
_POSITIVE = np.arange(1, 21) / 20
_NEGATIVE = np.maximum(np.arange(-5, 15), 0) / 20
LABELS = np.repeat([1, 0], 20)
SCORES = np.concatenate([_POSITIVE, _NEGATIVE])


def test_each_point_has_the_rates_of_its_threshold():
    points = operating_points(LABELS, SCORES)
    assert [point["rule"] for point in points] == list(RULES)
    for point in points:
        predicted = point["threshold"] <= SCORES
        assert point["sensitivity"] == predicted[LABELS == 1].mean()
        assert point["specificity"] == (~predicted)[LABELS == 0].mean()
        assert (point["positives"], point["negatives"]) == (20, 20)
        _, _, target = point["rule"].partition(">=")
        assert point["sensitivity"] >= float(target or 0)
    by_rule = {point["rule"]: point for point in points}
    assert by_rule["sensitivity>=0.95"]["sensitivity"] == 0.95  # 19 of 20
    assert by_rule["sensitivity>=0.97"]["sensitivity"] == 1


@pytest.mark.parametrize("label", [0, 1])
def test_no_points_without_both_classes(label):
    assert operating_points(np.full(40, label), SCORES) == []


@pytest.mark.parametrize(("asked", "got"), [(0.5, 0.8), (0.81, 0.85), (0.95, 0.95), (1, 1)])
def test_takes_the_most_specific_point_that_is_sensitive_enough(asked, got):
    points = [
        {"sensitivity": x, "specificity": 1.2 - x, "threshold": 1 - x}
        for x in (0.95, 0.8, 1.0, 0.85)
    ]
    assert choose_point(points, asked)["sensitivity"] == got


def test_no_point_is_sensitive_enough():
    assert choose_point([{"sensitivity": 0.9, "specificity": 1, "threshold": 0.5}], 0.91) is None
