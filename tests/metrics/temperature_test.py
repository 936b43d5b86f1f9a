"""The temperature: known answers, and its bounds."""

import numpy as np
import pytest

from cxr_tfds.metrics.logits import probabilities
from cxr_tfds.metrics.temperature import HIGHEST, LOWEST, fit_temperature


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_finds_the_temperature_that_the_labels_were_drawn_at(true):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, 20_000)
    labels = (rng.random(20_000) < probabilities(logits / true)).astype(np.int64)
    assert fit_temperature(labels, logits.astype(np.float32)) == pytest.approx(true, rel=0.05)


def test_finds_it_for_three_classes():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 3))
    ends = probabilities(logits / 2).cumsum(axis=1)
    labels = (rng.random((20_000, 1)) > ends).sum(axis=1)
    assert fit_temperature(labels, logits) == pytest.approx(2, rel=0.05)


def test_worked_by_hand():
    """One logit of +1, with Platt's target of 3/4 each way: sigmoid(1 / T) = 3/4, so T = 1 / ln 3."""
    labels, logits = np.array([0, 0, 1, 1]), np.array([-1.0, -1, 1, 1])
    assert fit_temperature(labels, logits) == pytest.approx(1 / np.log(3), abs=1e-4)


def test_two_columns_are_one():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 2, (50, 2)), rng.integers(0, 2, 50)
    assert fit_temperature(labels, logits) == pytest.approx(
        fit_temperature(labels, logits[:, 1] - logits[:, 0])
    )


@pytest.mark.parametrize(
    ("labels", "logits", "expected"),
    [
        (
            [0, 0, 1, 1],
            [0.001, 0.001, -0.001, -0.001],
            HIGHEST,
        ),  # always wrong: the less sure the better
        ([0, 0, 1, 1], [-0.01, -0.01, 0.01, 0.01], LOWEST),  # always right and hardly sure
        ([0, 0, 0, 0], [-1e4, -1e4, -1e4, -1e4], HIGHEST),  # far too sure
    ],
)
def test_stays_within_bounds(labels, logits, expected):
    assert fit_temperature(np.array(labels), np.array(logits)) == pytest.approx(expected, rel=1e-4)


def test_an_errorless_split_makes_it_not_infinitely_sure():
    labels, logits = np.repeat([0, 1], 50), np.repeat([-2.0, 2.0], 50)
    assert LOWEST * 2 < fit_temperature(labels, logits) < 1
