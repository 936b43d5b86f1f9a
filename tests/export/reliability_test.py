"""Counts of validation images by probability, worked by hand."""

import numpy as np

from cxr_tfds.export.check import Reference
from cxr_tfds.export.reliability import count_reliability


def test_two_classes_count_the_positive_one():
    validation = Reference(np.array([0, 1, 1]), np.zeros(3), 0.5)
    counts = count_reliability(validation, np.array([-8.0, 0, 8]), 2.0, ("A", "B"))
    assert counts == {"B": spread({0: (1, 0), 7: (1, 1), 14: (1, 1)})}


def test_more_classes_count_each_against_the_others():
    validation = Reference(np.array([0, 1]), np.zeros((2, 3)), None)
    logits = np.array([[99.0, 0, 0], [99.0, 0, 0]])
    counts = count_reliability(validation, logits, 1.0, ("A", "B", "C"))
    assert counts == {
        "A": spread({14: (2, 1)}),
        "B": spread({0: (2, 1)}),
        "C": spread({0: (2, 0)}),
    }


def test_findings_leave_out_images_without_a_label():
    column = Reference(np.array([1, 0, np.nan], np.float32), np.zeros(3), 0.5)
    logits = np.array([[9.0, -9], [9.0, -9], [9.0, -9]])
    counts = count_reliability({"E": column, "F": column}, logits, (1.0, 1.0), ("E", "F"))
    assert counts == {"E": spread({14: (2, 1)}), "F": spread({0: (2, 1)})}


def spread(bins):
    return {
        name: [bins.get(number, (0, 0))[index] for number in range(15)]
        for index, name in enumerate(("images", "positives"))
    }
