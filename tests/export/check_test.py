"""The comparison of an exported model with its Keras model, worked by hand."""

import dataclasses

import numpy as np
import pytest

from cxr_tfds.evaluation.scoring import Scores
from cxr_tfds.export import check


def scores(labels, logits):
    return Scores([], [], np.array(labels), np.array(logits, np.float32))


def test_comparison_worked_by_hand():
    mine = scores([0, 0, 1, 1], [-2, 1, -1, 2])  # probabilities 0.12, 0.73, 0.27, 0.88
    other = np.array([-2, -1, -1, 0], np.float32)
    found = check.compare(mine, other, 0.5, 0.5)
    assert (found.images, found.agreement, found.accuracy_keras, found.accuracy) == (
        4,
        0.75,
        0.5,
        0.75,
    )
    assert (found.auc_keras, found.auc) == (0.75, 0.875)
    assert found.max_difference == pytest.approx(0.4621172)  # sigmoid(1) - sigmoid(-1)
    assert found.mean_difference == pytest.approx((0.4621172 + 0.8807971 - 0.5) / 4)


def test_comparison_of_three_classes():
    mine = scores([0, 1, 2], [[2, 0, 0], [0, 2, 0], [0, 2, 0]])
    other = np.array([[2, 0, 0], [0, 2, 0], [0, 0, 2]], np.float32)
    found = check.compare(mine, other, None, None)
    # One class against the others: 1, 0.75 (a tie), 0.5 (two ties).
    assert (found.auc_keras, found.auc) == (0.75, 1)
    assert found.agreement == pytest.approx(2 / 3)
    assert (found.accuracy_keras, found.accuracy) == (pytest.approx(2 / 3), 1)
    assert check.matching_threshold(mine, other, None) is None


def test_the_auc_of_three_classes_is_that_of_the_calibrated_probabilities():
    """The first class has 0.51, 0.58 and 0.00 in the three images at temperature 1; 0.343, 0.336 and 0.323 at 100."""
    mine = scores([0, 1, 2], [[3, 2.9, 0], [1, 0, 0], [0, 0, 9]])
    found = check.compare(mine, mine.logits, None, None, temperature=100)
    assert found.auc_keras == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert found.auc == pytest.approx((1 + 0.5 + 1) / 3)
    assert (
        check.compare(mine._replace(temperature=100), mine.logits, None, None, 100).auc_keras
        == found.auc
    )


@pytest.mark.parametrize(("labels", "logits"), [([0, 0], [1, 2]), ([0, 1], [[1, 0, 0], [0, 1, 0]])])
def test_no_auc_where_a_class_has_no_image(labels, logits):
    threshold = 0.5 if np.ndim(logits) == 1 else None
    found = check.compare(
        scores(labels, logits), np.array(logits, np.float32), threshold, threshold
    )
    assert (found.auc, found.auc_keras, found.agreement) == (None, None, 1)


def test_the_gate_of_three_classes():
    mine = scores([0, 1, 2], [[2, 0, 0], [0, 2, 0], [0, 0, 2]])
    other = np.array([[2, 0, 0], [0, 2, 0], [0, 2, 0]], np.float32)
    found = check.compare(mine, other, None, None)
    assert check.failure(found, 0.005, 0.6) == "its AUC is 0.7500 against 1.0000; 0.005 may be lost"
    assert check.failure(found, 0.25, 0.6) is None


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([-3, -2, 2, 3], 0.5),  # every decision agrees: Keras's own
        ([-3, 0.5, 1.5, 3], 0.73),  # shifted: between the two in the middle
        ([0, 0, 0, 0], 0.25),  # constant: everything alike
    ],
)
def test_matching_threshold(logits, expected, temperature):
    mine = scores([0, 0, 1, 1], [-3, -2, 2, 3])
    logits = temperature * np.array(logits, np.float32)
    found = check.matching_threshold(mine, logits, 0.5, temperature)
    assert found == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.2), (2.0, 1 / 3), (0.5, 1 / 17)])
def test_the_threshold_moves_with_the_probabilities(temperature, expected):
    """Odds of 1 to 4 become 1 to 2 at temperature 2 and 1 to 16 at 0.5."""
    mine = scores([0, 0, 1, 1], [-3, -2, 2, 3])
    assert check.matching_threshold(mine, mine.logits, 0.2, temperature) == pytest.approx(expected)


def test_the_threshold_moves_from_the_temperature_of_the_keras_model():
    """Odds of 1 to 4 at temperature 2 are 1 to 16 at temperature 1."""
    mine = scores([0, 0, 1, 1], [-3, -2, 2, 3])._replace(temperature=2.0)
    assert check.matching_threshold(mine, mine.logits, 0.2, 1.0) == pytest.approx(1 / 17)
    assert check.matching_threshold(mine, mine.logits, 0.2, 2.0) == pytest.approx(0.2)


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_threshold_at_an_end_stays(threshold):
    mine = scores([0, 0, 1, 1], [-3, -2, 2, 3])
    assert check.matching_threshold(mine, mine.logits, threshold, 2.0) == threshold


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"auc": 0.894}, "its AUC is 0.8940 against 0.9000; 0.005 may be lost"),
        ({"auc": 0.896}, None),
        ({"auc": 0.95}, None),  # better is no loss
        ({"agreement": 0.9799}, "it agrees on 97.99% of the decisions; 98.00% are needed"),
        ({"auc": None, "auc_keras": None}, None),
    ],
)
def test_the_gate(changes, why):
    good = check.Comparison(100, 0.98, 0.9, 0.9, 0.8, 0.8, 0.1, 0.01)
    assert check.failure(dataclasses.replace(good, **changes), 0.005, 0.98) == why


def test_judge_fits_on_validation_and_compares_every_split():
    validation = scores([0, 0, 1, 1], [-2, -1, 1, 2])
    test = scores([0, 1], [-1, 1])
    logits = {"validation": 4 * validation.logits, "test": 4 * test.logits}
    same = check.judge({"validation": validation, "test": test}, logits, 0.5)
    own = check.judge(
        {"validation": validation, "test": test},
        {"validation": validation.logits, "test": test.logits},
        0.5,
    )
    assert same.temperature == pytest.approx(4 * own.temperature, rel=1e-4)
    assert (same.threshold, same.comparisons.keys()) == (pytest.approx(0.5), {"validation", "test"})
    assert [c.agreement for c in same.comparisons.values()] == [1, 1]
