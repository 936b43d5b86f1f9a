"""Bootstrap weights, groups, intervals and weighted tables."""

import numpy as np
import pytest

from cxr_tfds.metrics.resampling import (
    bootstrap_interval,
    bootstrap_weights,
    confusion_tables,
    divide,
    number_groups,
)


def test_each_resample_draws_as_many_groups_as_there_are():
    groups = np.array([0, 1, 1, 2])
    (weights,) = bootstrap_weights(groups, 4000, seed=0)
    assert (weights.shape, weights.dtype) == ((4000, 4), np.float64)
    np.testing.assert_array_equal(weights[:, 1], weights[:, 2])  # the same group
    np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)
    # A group is drawn once on average; its variance is n p (1 - p) = 3 * 1/3 * 2/3.
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.05)
    np.testing.assert_allclose(weights.var(axis=0), 2 / 3, atol=0.05)


def test_seed_decides_the_weights():
    one, same, other = (next(bootstrap_weights(np.arange(9), 5, seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_parts_stay_within_the_limit(monkeypatch):
    monkeypatch.setattr("cxr_tfds.metrics.resampling._MAX_WEIGHTS", 25)
    parts = list(bootstrap_weights(np.arange(10), 5, seed=0))
    assert [part.shape for part in parts] == [(2, 10), (2, 10), (1, 10)]
    monkeypatch.setattr("cxr_tfds.metrics.resampling._MAX_WEIGHTS", 5)
    assert [part.shape for part in bootstrap_weights(np.arange(10), 2, seed=0)] == [(1, 10)] * 2


def test_number_groups():
    assert number_groups(None, 3).tolist() == [0, 1, 2]
    assert number_groups(["b", "", "a", "b", "", "1"], 6).tolist() == [0, 1, 2, 0, 3, 4]


def test_interval_by_hand():
    drawn = np.append(np.arange(101) / 100, [np.nan] * 9)
    interval = bootstrap_interval(0.5, drawn)
    assert interval == {"value": 0.5, "low": pytest.approx(0.025), "high": pytest.approx(0.975)}


@pytest.mark.parametrize(("value", "low", "high"), [(0.1, 0.1, 0.3), (0.4, 0.2, 0.4)])
def test_interval_contains_its_value(value, low, high):
    drawn = np.array([0.2, 0.3]).repeat(50)
    assert bootstrap_interval(value, drawn) == {"value": value, "low": low, "high": high}


def test_undefined_value_has_no_interval():
    expected = {"value": None, "low": None, "high": None}
    assert bootstrap_interval(np.nan, np.ones(9)) == expected


@pytest.mark.parametrize(("defined", "expected"), [(10, 0.5), (9, None)])
def test_interval_needs_a_tenth_of_the_resamples(defined, expected):
    drawn = np.append(np.full(defined, 0.5), np.full(100 - defined, np.nan))
    interval = bootstrap_interval(0.5, drawn)
    assert (interval["value"], interval["low"], interval["high"]) == (0.5, expected, expected)
    assert interval.get("undefined", "").startswith("too few patients" if expected is None else "")


def test_confusion_tables_by_hand():
    weights = np.array([[1.0, 1, 1, 1], [0, 2, 0, 5]])
    tables = confusion_tables(weights, np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), 3)
    assert tables.tolist() == [
        [[1, 1, 0], [0, 1, 0], [1, 0, 0]],
        [[0, 2, 0], [0, 0, 0], [5, 0, 0]],
    ]


def test_division_by_zero_is_nan():
    np.testing.assert_array_equal(
        divide(np.array([6, 0, 5]), np.array([4, 2, 0])), [1.5, 0, np.nan]
    )


def test_counts_the_resamples_that_were_used():
    counts = []
    for weights in bootstrap_weights(np.arange(5), 30, 0, counts.append):
        assert len(weights) == 30
        assert not counts
    assert counts == [30]
