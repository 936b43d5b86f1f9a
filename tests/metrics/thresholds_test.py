"""Rules for the threshold: by hand, against scikit-learn, and what is refused."""

import math
import re

import numpy as np
import pytest
from sklearn import metrics as sklearn

from cxr_tfds.errors import InputError
from cxr_tfds.metrics.thresholds import best_threshold, check_rule


def draw(seed, images=300, steps=20, shift=0.25):
    """Labels and probabilities in `steps` steps, so that many are tied."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, images)
    scores = np.clip(generator.normal(0.4 + shift * labels, 0.2), 0, 1)
    return labels, np.round(scores * steps) / steps


def middle(low, high):
    """Halfway between two probabilities on the scale of logits."""
    low, high = (math.log(p / (1 - p)) for p in (low, high))
    return 1 / (1 + math.exp(-(low + high) / 2))


@pytest.mark.parametrize(
    ("labels", "probabilities", "expected"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.4, 0.9], middle(0.2, 0.4)),  # halfway, on no probability
        (
            [0, 0, 1, 1],
            [0.001, 0.01, 0.9999, 1],
            middle(0.01, 0.9999),
        ),  # a wide gap: 0.91, as far from both
        ([0, 1, 0, 1], [0.1, 0.3, 0.5, 0.9], 0.75),  # below 0.3 serves as well: the wider gap
        (
            [1, 1, 0, 0],
            [0.1, 0.2, 0.7, 0.9],
            0.95,
        ),  # upside down: all alike is best, 0.95 before 0.05
        ([0, 1], [0.3, 0.3], 0.65),  # nothing to tell them by
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


def test_threshold_between_neighbouring_numbers():
    low = 0.3
    high = np.nextafter(low, 1)
    threshold = best_threshold([0, 1], [low, high])
    assert low < threshold <= high  # no number lies between: the decision still parts them


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (0.5, middle(0.8, 0.9)),  # 0.9 alone is half of the findings, and costs no false alarm
        (
            0.6,
            middle(0.1, 0.3),
        ),  # 0.3 must be found, too: 0.5 and 0.8 are called falsely, 0.1 is not
        (0.99, middle(0.1, 0.3)),
    ],
)
def test_a_wanted_sensitivity_costs_as_few_false_alarms_as_can_be(part, expected):
    labels, probabilities = [0, 1, 0, 0, 1], [0.1, 0.3, 0.5, 0.8, 0.9]
    assert best_threshold(labels, probabilities, f"sensitivity>={part}") == pytest.approx(expected)


def test_of_equally_few_false_alarms_the_most_sensitive():
    labels, probabilities = [0, 1, 1, 1], [0.1, 0.3, 0.5, 0.8]
    assert best_threshold(labels, probabilities, "sensitivity>=0.3") == pytest.approx(
        middle(0.1, 0.3)
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("part", [0.8, 0.95])
def test_the_wanted_sensitivity_is_reached(seed, part):
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


def test_under_stress_it_is_youden_over_all_conditions():
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
def test_an_unknown_rule_is_refused(rule):
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
def test_the_rules(rule):
    check_rule(rule)


@pytest.mark.parametrize("rule", ["youden", "youden-stress", "sensitivity>=0.9"])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_has_no_threshold(rule, label):
    with pytest.raises(
        InputError,
        match=f"the threshold is undefined: none of the 2 images is labelled {1 - label}",
    ):
        best_threshold([label, label], [0.1, 0.2], rule)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], [0.5], "1 probabilities for 2 labels"),
        ([0, 1], [0.5, 1.5], "probabilities from 0.5 to 1.5; expected 0 to 1"),
        ([0, 2], [0.5, 0.5], "label 2"),
    ],
)
def test_bad_input(labels, probabilities, message):
    with pytest.raises(InputError, match=message):
        best_threshold(labels, probabilities)
