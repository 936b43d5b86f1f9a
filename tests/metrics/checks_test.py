"""Conversions of scores and probabilities, and their messages."""

import numpy as np
import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.metrics.checks import as_finite, as_probabilities


def test_converts_to_float64():
    assert as_finite(np.float32([0.5, 2]), "scores").dtype == np.float64
    assert as_probabilities([[0, 1]], ndim=2).dtype == np.float64


@pytest.mark.parametrize(
    ("values", "ndim", "message"),
    [
        ([0.5], 2, r"probabilities of shape \(1,\); expected \(N, K\)\.$"),
        ([[0.5]], 1, r"probabilities of shape \(1, 1\); expected \(N,\)\.$"),
        ([np.inf], 1, r"probabilities contain inf; expected finite numbers\.$"),
        ([1.25], 1, r"probabilities from 1\.25 to 1\.25; expected 0 to 1\.$"),
    ],
)
def test_refuses_other_probabilities(values, ndim, message):
    with pytest.raises(InputError, match=f"^{message}"):
        as_probabilities(values, ndim)
