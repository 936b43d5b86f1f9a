"""What probabilities meant on validation, worked by hand."""

import numpy as np

from cxr_tfds.export.check import Reference
from cxr_tfds.export.outcomes import describe_outcomes


def test_two_classes_count_the_positive_one():
    validation = Reference(np.array([0, 1, 1]), np.zeros(3), 0.5)
    outcomes = describe_outcomes(validation, np.array([-8.0, 0, 8]), 2.0, ("A", "B"))
    assert outcomes["reliability"] == {"B": spread({0: (1, 0), 7: (1, 1), 14: (1, 1)})}
    assert {x["positives"] for x in outcomes["operating_points"]["B"]} == {2}


def test_more_classes_count_each_against_the_others():
    validation = Reference(np.array([0, 1]), np.zeros((2, 3)), None)
    logits = np.array([[99.0, 0, 0], [99.0, 0, 0]])
    outcomes = describe_outcomes(validation, logits, 1.0, ("A", "B", "C"))
    assert outcomes["reliability"] == {
        "A": spread({14: (2, 1)}),
        "B": spread({0: (2, 1)}),
        "C": spread({0: (2, 0)}),
    }
    assert outcomes["operating_points"] == {}


def test_findings_leave_out_images_without_a_label():
    column = Reference(np.array([1, 0, np.nan], np.float32), np.zeros(3), 0.5)
    logits = np.array([[9.0, -9], [9.0, -9], [9.0, -9]])
    outcomes = describe_outcomes({"E": column, "F": column}, logits, (1.0, 1.0), ("E", "F"))
    assert outcomes["reliability"] == {"E": spread({14: (2, 1)}), "F": spread({0: (2, 1)})}
    assert {x["negatives"] for x in outcomes["operating_points"]["F"]} == {1}


def spread(bins):
    return {
        name: [bins.get(number, (0, 0))[index] for number in range(15)]
        for index, name in enumerate(("images", "positives"))
    }
