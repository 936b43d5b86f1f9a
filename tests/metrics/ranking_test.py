"""AUC and average precision by hand; weighted images against repeated ones."""

import numpy as np
import pytest
from sklearn import metrics as sklearn

from cxr_tfds.errors import InputError
from cxr_tfds.metrics.ranking import Ranking, auc, rank_classes


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
    assert auc(labels, scores) == expected


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1], [0.1, 0.2], "auc is undefined: none of the 2 images is labelled 0"),
        ([0, 0, 0], [0, 0, 1], "auc is undefined: none of the 3 images is labelled 1"),
        ([0, 1], [0.5, float("nan")], "scores contain nan; expected finite"),
    ],
)
def test_refuses_undefined_auc(labels, scores, message):
    with pytest.raises(InputError, match=message):
        auc(labels, scores)


def test_weights_count_like_repeated_images():
    generator = np.random.default_rng(0)
    labels, scores = generator.integers(0, 2, 40), generator.integers(0, 9, 40) / 8
    weights = generator.integers(0, 4, (5, 40))
    ranking = Ranking(labels, scores)
    repeated = [(np.repeat(labels, times), np.repeat(scores, times)) for times in weights]
    np.testing.assert_allclose(
        ranking.auc(weights.astype(float)), [sklearn.roc_auc_score(*each) for each in repeated]
    )
    np.testing.assert_allclose(
        ranking.average_precision(weights.astype(float)),
        [sklearn.average_precision_score(*each) for each in repeated],
    )


def test_resamples_of_one_class_are_nan():
    ranking = Ranking(np.array([0, 1]), np.array([0.2, 0.8]))
    weights = np.array([[1.0, 1], [2, 0], [0, 2]])
    np.testing.assert_array_equal(ranking.auc(weights), [1, np.nan, np.nan])
    np.testing.assert_array_equal(ranking.average_precision(weights), [1, np.nan, np.nan])


def test_counts_per_score_by_hand():
    ranking = Ranking(np.array([1, 0, 1, 0]), np.array([0.5, 0.1, 0.1, 0.1]))
    positive, negative = ranking.counts_per_score(np.array([[3.0, 1, 2, 5]]))
    assert ranking.distinct_scores.tolist() == [0.1, 0.5]
    assert (positive.tolist(), negative.tolist()) == ([[2, 3]], [[6, 0]])


def test_rank_classes_compares_each_class_with_the_rest():
    labels, scores = np.array([0, 1, 2, 2]), np.eye(3)[[0, 1, 2, 1]]
    aucs = [ranking.auc()[0] for ranking in rank_classes(labels, scores)]
    assert aucs == pytest.approx([1, 5 / 6, 0.75])
    (only,) = rank_classes(np.array([0, 1]), np.array([3.0, 4.0]))
    assert only.auc()[0] == 1
