"""Bins, reliability curve and Wilson interval by hand."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from cxr_tfds.metrics.reliability import (
    BINS,
    count_outcomes,
    reliability_curve,
    reliability_gaps,
    trials_needed,
    wilson_interval,
)


def test_bins_include_their_lower_end():
    values = np.array([0, 0.066, 1 / 15, 0.5, 0.999, 1.0])
    gaps = reliability_gaps(values, np.full(6, 2))
    assert gaps.shape == (6, BINS)
    assert gaps.argmin(axis=1).tolist() == [0, 0, 1, 7, 14, 14]


def test_gap_is_probability_minus_outcome():
    gaps = reliability_gaps(np.array([0.1, 0.95]), np.array([1, 0]))
    assert gaps[[0, 1], [1, 14]].tolist() == pytest.approx([-0.9, 0.95])
    assert np.count_nonzero(gaps) == 2


def test_curve_by_hand():
    curve = reliability_curve(np.array([0.01, 0.03, 0.5, 0.98]), np.array([0, 1, 1, 1]))
    assert curve.predicted.tolist() == pytest.approx([0.02, 0.5, 0.98])
    assert curve.observed.tolist() == [0.5, 1, 1]
    assert curve.counts.tolist() == [2, *[0] * 6, 1, *[0] * 6, 1]
    low, high = wilson_interval(np.array([1, 1, 1]), np.array([2, 1, 1]))
    assert (curve.low.tolist(), curve.high.tolist()) == (low.tolist(), high.tolist())


def test_counts_contain_empty_bins():
    assert reliability_curve(np.array([0.01]), np.array([0])).counts.tolist() == [1, *[0] * 14]


def test_counts_by_hand():
    images, positives = count_outcomes(np.array([0.01, 0.03, 0.98]), np.array([0, 1, 1]))
    assert images.tolist() == [2, *[0] * 13, 1]
    assert positives.tolist() == [1, *[0] * 13, 1]


def test_curve_agrees_with_scikit_learn():
    generator = np.random.default_rng(0)
    values = generator.random(500)
    outcomes = generator.random(500) < values
    curve = reliability_curve(values, outcomes)
    observed, predicted = calibration_curve(outcomes, values, n_bins=BINS)
    np.testing.assert_allclose((curve.observed, curve.predicted), (observed, predicted))


def test_wilson_interval_by_hand():
    # 0 of 10: from 0 to 1.96^2 / (10 + 1.96^2).
    low, high = wilson_interval(np.array([0, 10, 5]), np.array([10, 10, 10]))
    assert low.tolist() == pytest.approx([0, 10 / 13.8415, 0.2366], abs=1e-4)
    assert high.tolist() == pytest.approx([3.8415 / 13.8415, 1, 0.7634], abs=1e-4)
    assert low[0] == 0


@pytest.mark.parametrize(
    ("rate", "needed"), [(0, 0), (0.5, 4), (0.98, 189), (1, None), (1.01, None)]
)
def test_trials_needed(rate, needed):
    assert trials_needed(rate) == needed
    if needed:
        low, _ = wilson_interval(np.array([needed, needed - 1]), np.array([needed, needed - 1]))
        assert low[0] >= rate > low[1]
