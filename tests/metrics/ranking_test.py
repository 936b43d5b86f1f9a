"""Decisions, the area under the curve and the bins of calibration, by hand; the figures are in `summary_test`."""

import numpy as np
import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.metrics import metrics


def test_decisions():
    found = metrics.decisions(np.array([0.4, 0.5, 0.6]), 0.5)
    assert (found.tolist(), found.dtype) == ([0, 1, 1], np.int64)
    assert metrics.decisions(np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]), None).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 1], [0.1, 0.9], 1.0),
        ([0, 1], [0.9, 0.1], 0.0),
        ([0, 1], [0.5, 0.5], 0.5),  # a tie counts half
        ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.75),
        ([0, 0, 1], [1.0, 2.0, 2.0], 0.75),
        ([0, 1, 1], [-5.0, -5.0, 100.0], 0.75),  # logits are scores too
    ],
)
def test_auc_by_hand(labels, scores, expected):
    assert metrics.auc(labels, scores) == expected


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1], [0.1, 0.2], "auc is undefined: none of the 2 images is labelled 0"),
        ([0, 0, 0], [0, 0, 1], "auc is undefined: none of the 3 images is labelled 1"),
        ([], [], r"labels of shape \(0,\)"),
        ([0, 2], [0, 1], "label 2; expected whole numbers from 0 to 1"),
        ([0, 0.5], [0, 1], "label 0.5"),
        ([0, float("nan")], [0, 1], "label nan"),
        (["0", "1"], [0, 1], "label 0; expected whole numbers"),
        ([[0], [1]], [0, 1], r"labels of shape \(2, 1\)"),
        ([0, 1], [0.5], "1 scores for 2 labels"),
        ([0, 1], [[0.1], [0.2]], r"scores of shape \(2, 1\); expected \(N,\)"),
        ([0, 1], [0.5, float("nan")], "scores hold nan; expected finite"),
    ],
)
def test_what_has_no_auc(labels, scores, message):
    with pytest.raises(InputError, match=message):
        metrics.auc(labels, scores)


def test_a_bin_holds_its_lower_end():
    assert metrics.reliability_bins(np.array([0, 0.066, 1 / 15, 0.5, 0.999, 1.0])).tolist() == [
        0,
        0,
        1,
        7,
        14,
        14,
    ]
    gaps = metrics.reliability_gaps(np.array([0.1, 0.95]), np.array([1, 0]))
    assert gaps.shape == (2, metrics.BINS)
    assert gaps[[0, 1], [1, 14]].tolist() == pytest.approx([-0.9, 0.95])
    assert np.count_nonzero(gaps) == 2
