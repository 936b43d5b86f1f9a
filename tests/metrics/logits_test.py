"""Logits, probabilities and decisions: known values, extremes and inverses."""

import math

import numpy as np
import pytest

from cxr_tfds.metrics.logits import decisions, logit, probabilities, sigmoid, softmax


def test_sigmoid_by_hand():
    np.testing.assert_allclose(sigmoid(np.array([0, math.log(3), -math.log(3)])), [0.5, 0.75, 0.25])
    assert sigmoid(np.float32([-1e4, 1e4])).tolist() == [0, 1]  # warnings are errors


def test_softmax_by_hand():
    logits = np.log([[1.0, 2, 5], [3, 3, 2]])
    np.testing.assert_allclose(softmax(logits), [[0.125, 0.25, 0.625], [0.375, 0.375, 0.25]])
    assert softmax(np.array([1e4, -1e4, 0])).tolist() == [1, 0, 0]


def test_logit_inverts_sigmoid():
    np.testing.assert_allclose(logit(np.array([0.5, 0.75])), [0, math.log(3)])
    values = np.linspace(-30, 30, 61)
    np.testing.assert_allclose(logit(sigmoid(values)), values, rtol=2e-3)


def test_logit_clips_to_epsilon():
    np.testing.assert_allclose(logit(np.array([0, 1.0]), 0.1), [-math.log(9), math.log(9)])
    assert logit(0.2, 0.1) == pytest.approx(-math.log(4))


def test_temperature_divides_the_logits():
    logits = np.array([2.0, -4.0])
    np.testing.assert_array_equal(probabilities(logits, 2.0), sigmoid(np.array([1.0, -2.0])))
    several = np.array([[2.0, 0, -2]])
    np.testing.assert_allclose(probabilities(several, 2.0), softmax(several / 2))


def test_rows_of_very_different_size_do_not_overflow():
    rows = np.array([[1000.0, 1000], [-1000, -1000]])
    assert softmax(rows).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert probabilities(rows * 8e304, 0.5).tolist() == [[0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize("function", [sigmoid, softmax, logit, probabilities])
def test_float32_is_computed_in_float64(function):
    values = np.float32([[0.2, 0.7, 0.4]])
    assert function(values).dtype == np.float64
    np.testing.assert_array_equal(function(values), function(values.astype(np.float64)))


def test_decisions():
    found = decisions(np.array([0.4, 0.5, 0.6]), 0.5)
    assert (found.tolist(), found.dtype) == ([0, 1, 1], np.int64)
    assert decisions(np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]), None).tolist() == [1, 0]
