"""Metrics against scikit-learn, tables worked by hand, and what is refused."""

import numpy as np
import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.evaluation import metrics


def draw(seed, images=300, steps=20, shift=0.25):
    """Labels and probabilities in `steps` steps, so that many are tied."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, images)
    scores = np.clip(generator.normal(0.4 + shift * labels, 0.2), 0, 1)
    return labels, np.round(scores * steps) / steps


@pytest.mark.parametrize("seed", range(5))
def test_scores_agree_with_scikit_learn(seed):
    sklearn = pytest.importorskip("sklearn.metrics")
    labels, scores = draw(seed)
    assert metrics.auc(labels, scores) == pytest.approx(sklearn.roc_auc_score(labels, scores))
    expected = sklearn.average_precision_score(labels, scores)
    assert metrics.average_precision(labels, scores) == pytest.approx(expected)
    assert metrics.brier(labels, scores) == pytest.approx(sklearn.brier_score_loss(labels, scores))


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.7])
def test_decisions_agree_with_scikit_learn(threshold):
    sklearn = pytest.importorskip("sklearn.metrics")
    labels, scores = draw(7)
    decisions = scores >= threshold
    pairs = {
        metrics.accuracy: sklearn.accuracy_score(labels, decisions),
        metrics.balanced_accuracy: sklearn.balanced_accuracy_score(labels, decisions),
        metrics.sensitivity: sklearn.recall_score(labels, decisions),
        metrics.specificity: sklearn.recall_score(labels, decisions, pos_label=0),
        metrics.ppv: sklearn.precision_score(labels, decisions),
        metrics.npv: sklearn.precision_score(labels, decisions, pos_label=0),
        metrics.f1: sklearn.f1_score(labels, decisions),
    }
    for metric, expected in pairs.items():
        assert metric(labels, decisions) == pytest.approx(expected), metric.__name__
    counts = metrics.confusion_matrix(labels, decisions)
    assert list(counts.values()) == sklearn.confusion_matrix(labels, decisions).ravel().tolist()
    assert list(counts) == ["tn", "fp", "fn", "tp"]


def test_decisions_by_hand():
    labels, decisions = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 0, 0, 1, 1, 1, 1]
    assert metrics.confusion_matrix(labels, decisions) == {"tn": 3, "fp": 1, "fn": 2, "tp": 4}
    assert metrics.accuracy(labels, decisions) == 7 / 10
    assert metrics.sensitivity(labels, decisions) == 4 / 6
    assert metrics.specificity(labels, decisions) == 3 / 4
    assert metrics.balanced_accuracy(labels, decisions) == pytest.approx((4 / 6 + 3 / 4) / 2)
    assert metrics.ppv(labels, decisions) == 4 / 5
    assert metrics.npv(labels, decisions) == 3 / 5
    assert metrics.f1(labels, decisions) == 8 / 11


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


def test_average_precision_and_brier_by_hand():
    # Down the scores: 1 of 1 right, 1 of 2, 2 of 3; half of the findings each time one is found.
    assert metrics.average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.brier([0, 1], [0.5, 0.8]) == pytest.approx((0.25 + 0.04) / 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.auc([1, 1], [0.1, 0.2]), "auc is undefined: none of the 2 images is labelled 0"),
        (lambda: metrics.auc([0, 0, 0], [0, 0, 1]), "auc is undefined: none of the 3 images is labelled 1"),
        (lambda: metrics.average_precision([1], [1]), "is labelled 0"),
        (lambda: metrics.sensitivity([0, 0], [0, 1]), "sensitivity is undefined: no image is labelled 1"),
        (lambda: metrics.specificity([1], [1]), "specificity is undefined: no image is labelled 0"),
        (lambda: metrics.balanced_accuracy([1], [1]), "specificity is undefined: no image is labelled 0"),
        (lambda: metrics.f1([0, 0], [0, 1]), "f1 is undefined: no image is labelled 1"),
        (lambda: metrics.ppv([0, 1], [0, 0]), "ppv is undefined: no image was decided to be 1"),
        (lambda: metrics.npv([0, 1], [1, 1]), "npv is undefined: no image was decided to be 0"),
    ],
)
def test_undefined_is_neither_0_nor_1(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.accuracy([], []), r"labels of shape \(0,\)"),
        (lambda: metrics.accuracy([0, 2], [0, 1]), "label 2; expected whole numbers from 0 to 1"),
        (lambda: metrics.accuracy([0, 0.5], [0, 1]), "label 0.5"),
        (lambda: metrics.accuracy([0, float("nan")], [0, 1]), "label nan"),
        (lambda: metrics.accuracy(["0", "1"], [0, 1]), "label 0; expected whole numbers"),
        (lambda: metrics.accuracy([0, 1], [0.2, 0.8]), "decision 0.2"),
        (lambda: metrics.accuracy([[0], [1]], [0, 1]), r"labels of shape \(2, 1\)"),
        (lambda: metrics.accuracy([0, 1], [0, 1, 1]), "3 decisions for 2 labels"),
        (lambda: metrics.auc([0, 1], [0.5]), "1 scores for 2 labels"),
        (lambda: metrics.auc([0, 1], [[0.1], [0.2]]), r"scores of shape \(2, 1\); expected \(N,\)"),
        (lambda: metrics.auc([0, 1], [0.5, float("nan")]), "scores hold nan; expected finite"),
        (lambda: metrics.brier([0, 1], [0.5, 1.5]), "probabilities from 0.5 to 1.5; expected 0 to 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_calibration_error_by_hand():
    # Two bins: 0.1 and 0.12 with one finding of two (mean 0.11, seen 0.5), 0.95 with none: (2 x 0.39 + 0.95) / 3.
    found = metrics.expected_calibration_error([0, 1, 0], [0.1, 0.12, 0.95])
    assert found == pytest.approx((2 * 0.39 + 0.95) / 3)
    assert metrics.expected_calibration_error([0, 1], [0.0, 1.0]) == 0


@pytest.mark.parametrize("seed", range(3))
def test_calibration_error_agrees_with_scikit_learn(seed):
    calibration_curve = pytest.importorskip("sklearn.calibration").calibration_curve
    generator = np.random.default_rng(seed)
    scores = generator.random(400)
    labels = (generator.random(400) < scores**2).astype(int)
    observed, predicted = calibration_curve(labels, scores, n_bins=metrics.BINS)
    counts = np.bincount(metrics.calibration_bins(scores), minlength=metrics.BINS)
    expected = np.sum(counts[counts > 0] * np.abs(observed - predicted)) / 400
    assert metrics.expected_calibration_error(labels, scores) == pytest.approx(expected)
