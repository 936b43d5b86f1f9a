"""Threshold rules by hand and against scikit-learn, and refused input."""

import math
import re

import numpy as np
import pytest
from sklearn import metrics as sklearn

from cxr_tfds.errors import InputError
from cxr_tfds.metrics.thresholds import best_threshold, check_rule


def draw(seed, images=300, steps=20, shift=0.25):
    """Labels and probabilities, rounded to steps so that many are tied."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, images)
    scores = np.clip(generator.normal(0.4 + shift * labels, 0.2), 0, 1)
    return labels, np.round(scores * steps) / steps


def middle(low, high):
    """The middle of two probabilities on the scale of logits."""
    low, high = (math.log(p / (1 - p)) for p in (low, high))
    return 1 / (1 + math.exp(-(low + high) / 2))


# As far above 0.8 as 0.55 is above 0.45, on the scale of logits.
SAME_WIDTH = 1 / (1 + (0.2 / 0.8) * (0.45 / 0.55) ** 2)


@pytest.mark.parametrize(
    ("labels", "probabilities", "expected"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.4, 0.9], middle(0.2, 0.4)),  # the middle, not a probability
        (
            [0, 0, 1, 1],
            [0.001, 0.01, 0.9999, 1],
            middle(0.01, 0.9999),
        ),  # a wide gap: 0.91, equally far from both
        ([0, 1, 0, 1], [0.1, 0.3, 0.5, 0.9], 0.75),  # as good as below 0.3, and wider
        (
            [1, 1, 0, 0],
            [0.1, 0.2, 0.7, 0.9],
            0.95,
        ),  # reversed: one class for all is best, 0.95 before 0.05
        ([1, 0], [0.8, 0.9], 0.4),  # 0.4 before 0.95
        ([0, 1, 0, 1], [0.45, 0.55, 0.7, 0.85], middle(0.7, 0.85)),  # wider, not nearer 0.5
        ([0, 1, 0, 1], [0.45, 0.55, 0.8, SAME_WIDTH], 0.5),  # equally wide: nearer 0.5
        ([0, 1], [np.nextafter(1, 0), 1.0], 1.0),
        ([0, 1], [0.3, 0.3], 0.65),  # not separable
        ([0, 1], [1.0, 1.0], 0.5),
        ([0, 1], [0.0, 0.0], 0.5),
        ([0, 1], [0.0, 1.0], 0.5),
    ],
)
def test_best_threshold_by_hand(labels, probabilities, expected):
    assert best_threshold(labels, probabilities) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_best_threshold_finds_the_largest_index(seed):
    labels, scores = draw(seed)
    threshold = best_threshold(labels, scores)
    assert threshold not in scores
    false_alarms, seen, _ = sklearn.roc_curve(labels, scores)
    found = 2 * sklearn.balanced_accuracy_score(labels, scores >= threshold) - 1
    assert found == pytest.approx((seen - false_alarms).max())


@pytest.mark.parametrize("low", [0.3, 0.6, 0.7, 0.9])
def test_threshold_between_neighbouring_numbers(low):
    """No number lies between the two: the upper one is the threshold."""
    high = np.nextafter(low, 1)
    assert best_threshold([0, 0, 1], [0.1, low, high]) == high


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (0.5, middle(0.8, 0.9)),  # 0.9 is half of the positives, without a false positive
        # 0.3 must be detected too, at the cost of 0.5 and 0.8 but not of 0.1.
        (0.6, middle(0.1, 0.3)),
        (0.99, middle(0.1, 0.3)),
    ],
)
def test_sensitivity_rule_minimizes_false_positives(part, expected):
    labels, probabilities = [0, 1, 0, 0, 1], [0.1, 0.3, 0.5, 0.8, 0.9]
    assert best_threshold(labels, probabilities, f"sensitivity>={part}") == pytest.approx(expected)


def test_fewer_false_positives_count_more_than_any_sensitivity():
    """A threshold at 0.85 has no false positive; one at 0.1 detects all, and its gap is wider."""
    labels, probabilities = [0, 1, 1, 0, 1], [0.1, 0.8, 0.8, 0.85, 0.9]
    assert best_threshold(labels, probabilities, "sensitivity>=0.3") == pytest.approx(
        middle(0.85, 0.9)
    )


def test_of_equally_few_false_positives_the_most_sensitive():
    labels, probabilities = [0, 1, 1, 1], [0.1, 0.3, 0.5, 0.8]
    assert best_threshold(labels, probabilities, "sensitivity>=0.3") == pytest.approx(
        middle(0.1, 0.3)
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("part", [0.8, 0.95])
def test_sensitivity_rule_reaches_its_sensitivity(seed, part):
    labels, scores = draw(seed)
    threshold = best_threshold(labels, scores, f"sensitivity>={part}")
    assert sklearn.recall_score(labels, scores >= threshold) >= part
    higher = np.unique(scores[scores > threshold])[:1]
    assert sklearn.recall_score(labels, scores > higher) < sklearn.recall_score(
        labels, scores >= threshold
    )


@pytest.mark.parametrize("rule", ["0.5", ".25", "0.999"])
def test_a_number_is_the_threshold(rule):
    assert best_threshold([0, 0], [0.1, 0.2], rule) == float(rule)


def test_stress_rule_maximizes_the_mean_index_of_all_conditions():
    labels, scores = draw(1)
    both = np.tile(labels, 2), np.concatenate([scores, np.clip(scores + 0.2, 0, 1)])
    threshold = best_threshold(*both, "youden-stress")
    assert threshold == best_threshold(*both)
    index = [
        2 * sklearn.balanced_accuracy_score(labels, part >= threshold) - 1
        for part in np.split(both[1], 2)
    ]
    for other in np.linspace(0.05, 0.95, 19):
        others = [
            2 * sklearn.balanced_accuracy_score(labels, part >= other) - 1
            for part in np.split(both[1], 2)
        ]
        assert np.mean(index) >= np.mean(others) - 1e-9


RULES = [
    "best",
    "",
    "sensitivity",
    "sensitivity>=0",
    "sensitivity>=1",
    "sensitivity>=95",
    "sensitivity>0.9",
    "0",
    "1",
    "1.5",
]


@pytest.mark.parametrize("rule", [*RULES, "-0.5", "nan", "Youden", "0.5 ", "1e-3"])
def test_refuses_unknown_rules(rule):
    with pytest.raises(
        InputError,
        match=re.escape(f"threshold_rule={rule!r}; expected youden, youden-stress, sens"),
    ):
        check_rule(rule)
    with pytest.raises(InputError, match="threshold_rule="):
        best_threshold([0, 1], [0, 1], rule)


@pytest.mark.parametrize(
    "rule", ["youden", "youden-stress", "sensitivity>=0.95", "sensitivity>=.9", "0.5", ".5"]
)
def test_accepts_rules(rule):
    check_rule(rule)


@pytest.mark.parametrize("rule", ["youden", "youden-stress", "sensitivity>=0.9"])
@pytest.mark.parametrize("label", [0, 1])
def test_refuses_one_class(rule, label):
    with pytest.raises(
        InputError,
        match=f"the threshold is undefined: none of the 2 images is labelled {1 - label}",
    ):
        best_threshold([label, label], [0.1, 0.2], rule)


def test_refuses_nan():
    with pytest.raises(InputError, match="probabilities contain nan"):
        best_threshold([0, 1], [0.5, float("nan")])
