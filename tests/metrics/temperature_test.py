"""The fitted temperature: known answers and bounds."""

import math

import numpy as np
import pytest

from cxr_tfds.metrics.logits import probabilities
from cxr_tfds.metrics.temperature import HIGHEST, LOWEST, fit_temperature


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_finds_the_temperature_that_drew_the_labels(true):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, 20_000)
    labels = (rng.random(20_000) < probabilities(logits / true)).astype(np.int64)
    assert fit_temperature(labels, logits.astype(np.float32)) == pytest.approx(true, rel=0.05)


def test_finds_the_temperature_of_three_classes():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 3))
    ends = probabilities(logits / 2).cumsum(axis=1)
    labels = (rng.random((20_000, 1)) > ends).sum(axis=1)
    assert fit_temperature(labels, logits) == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize(
    ("size", "logit", "expected"),
    [
        # Smoothed labels (n + 1) / (n + 2): sigmoid(logit / T) = 3/4, so T = logit / ln 3.
        (2, 1.0, 1 / math.log(3)),
        # A split without errors stays finite: sigmoid(2 / T) = 51/52.
        (50, 2.0, 2 / math.log(51)),
    ],
)
def test_worked_by_hand(size, logit, expected):
    labels, logits = np.repeat([0, 1], size), np.repeat([-logit, logit], size)
    assert fit_temperature(labels, logits) == pytest.approx(expected, rel=1e-6)


def test_unequal_classes_worked_by_hand():
    """The smoothed labels are 4/5 for the three negatives and 2/3 for the positive."""
    labels, logits = np.array([0, 0, 0, 1]), np.array([-1.0, -1, -1, 1])
    share = (3 * 4 / 5 + 2 / 3) / 4
    expected = 1 / math.log(share / (1 - share))
    assert fit_temperature(labels, logits) == pytest.approx(expected, rel=1e-6)


def test_two_columns_equal_their_difference():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 2, (50, 2)), rng.integers(0, 2, 50)
    assert fit_temperature(labels, logits) == pytest.approx(
        fit_temperature(labels, logits[:, 1] - logits[:, 0])
    )


@pytest.mark.parametrize(
    ("labels", "logits", "expected"),
    [
        ([0, 0, 1, 1], [0.001, 0.001, -0.001, -0.001], HIGHEST),  # always wrong
        ([0, 0, 1, 1], [-0.01, -0.01, 0.01, 0.01], LOWEST),  # always right, not confident
        ([0, 0, 0, 0], [-1e4, -1e4, -1e4, -1e4], HIGHEST),  # far too confident
    ],
)
def test_stays_within_bounds(labels, logits, expected):
    assert fit_temperature(np.array(labels), np.array(logits)) == pytest.approx(expected, rel=1e-4)
    assert (LOWEST, HIGHEST) == (0.1, 10)
