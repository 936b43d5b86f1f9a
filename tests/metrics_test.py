"""Metrics against scikit-learn, tables worked by hand, intervals, and what is refused."""

import time

import numpy as np
import pytest

from cxr_tfds import metrics
from cxr_tfds.errors import InputError

BINARY = {
    "auc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "f1",
    "brier",
}


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
        (lambda: metrics.summary([1, 1], [0.1, 0.2], threshold=0.5), "is labelled 0"),
        (lambda: metrics.best_threshold([0, 0], [0.1, 0.2]), "is labelled 1"),
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
        (lambda: metrics.best_threshold([0, 1], [0, 1], rule="best"), "rule='best'; expected one of youden"),
        (lambda: metrics.summary([0, 1], [0, 1], threshold=None), "threshold=None; expected 0 to 1"),
        (lambda: metrics.summary([0, 1], [0, 1], threshold=float("nan")), "threshold=nan"),
        (lambda: metrics.summary([0, 1], [0, 1], threshold=0.5, resamples=0), "resamples=0"),
        (lambda: metrics.summary([0, 1], [0, 1], threshold=0.5, groups=["a"]), "1 groups for 2 labels"),
        (lambda: metrics.summary([0, 1], [0, 1], threshold=0.5, groups=[b"a", b"b"]), "is a bytes"),
        (lambda: metrics.summary([0, 1], np.full((2, 2), 0.5), threshold=None), "2 columns"),
        (lambda: metrics.summary([0, 1, 2], np.eye(3), threshold=0.5), "threshold=0.5; expected None"),
        (lambda: metrics.summary([0, 1, 1], np.eye(3), threshold=None), "is labelled 2"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize(
    ("labels", "probabilities", "expected"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.4, 0.9], 0.3),  # halfway, on no probability
        ([0, 1, 0, 1], [0.1, 0.3, 0.5, 0.9], 0.7),  # 0.2 serves as well; 0.7 and 0.2: the nearer to 0.5
        ([1, 1, 0, 0], [0.1, 0.2, 0.7, 0.9], 0.95),  # upside down: all alike is best, 0.95 before 0.05
        ([0, 1], [0.3, 0.3], 0.65),  # nothing to tell them by
        ([0, 1], [1.0, 1.0], 0.5),
        ([0, 1], [0.0, 0.0], 0.5),
        ([0, 1], [0.0, 1.0], 0.5),
    ],
)
def test_best_threshold_by_hand(labels, probabilities, expected):
    assert metrics.best_threshold(labels, probabilities) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_best_threshold_finds_the_largest_index(seed):
    sklearn = pytest.importorskip("sklearn.metrics")
    labels, scores = draw(seed)
    threshold = metrics.best_threshold(labels, scores)
    assert threshold not in scores
    false_alarms, seen, _ = sklearn.roc_curve(labels, scores)
    found = 2 * metrics.balanced_accuracy(labels, scores >= threshold) - 1
    assert found == pytest.approx((seen - false_alarms).max())


def test_threshold_between_neighbouring_numbers():
    low = 0.3
    high = np.nextafter(low, 1)
    threshold = metrics.best_threshold([0, 1], [low, high])
    assert low < threshold <= high  # no number lies between: the decision still parts them


@pytest.mark.parametrize("seed", range(5))
def test_summary_repeats_the_single_metrics(seed):
    labels, scores = draw(seed)
    table = metrics.summary(labels, scores, threshold=0.5, resamples=300, seed=seed)
    assert table.keys() == BINARY
    decisions = scores >= 0.5
    for name, entry in table.items():
        given = scores if name in ("auc", "average_precision", "brier") else decisions
        assert entry["value"] == pytest.approx(getattr(metrics, name)(labels, given))
        assert entry["low"] <= entry["value"] <= entry["high"]
        assert 0 < entry["high"] - entry["low"] < 0.3
        assert set(map(type, entry.values())) == {float}


def test_summary_is_repeatable_and_the_seed_counts():
    labels, scores = draw(0)
    one, same, other = (metrics.summary(labels, scores, threshold=0.5, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one["auc"]["low"] != other["auc"]["low"]
    assert one["auc"]["low"] == pytest.approx(other["auc"]["low"], abs=0.01)


def test_interval_of_auc_agrees_with_resampling_one_by_one():
    labels, scores = draw(3, images=120)
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(2000):
        chosen = generator.integers(0, 120, 120)
        drawn.append(metrics.auc(labels[chosen], scores[chosen]))
    entry = metrics.summary(labels, scores, threshold=0.5, resamples=2000)["auc"]
    assert [entry["low"], entry["high"]] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.01)


def test_images_of_one_patient_are_drawn_together():
    labels, scores = draw(1, images=60)
    each = metrics.summary(labels, scores, threshold=0.5)
    repeated = {"labels": np.repeat(labels, 10), "probabilities": np.repeat(scores, 10), "threshold": 0.5}
    by_image = metrics.summary(**repeated)
    by_patient = metrics.summary(**repeated, groups=[f"p{n}" for n in np.repeat(np.arange(60), 10)])
    # Ten copies of an image are no ten patients: the same draws as of the single images.
    assert by_patient["auc"] == pytest.approx(each["auc"])
    widths = [table["auc"]["high"] - table["auc"]["low"] for table in (by_image, by_patient)]
    assert widths[0] < widths[1] / 2


def test_unknown_patients_are_groups_of_their_own():
    labels, scores = draw(2, images=50)
    by_image = metrics.summary(labels, scores, threshold=0.5)
    assert metrics.summary(labels, scores, threshold=0.5, groups=[""] * 50) == by_image
    assert metrics.summary(labels, scores, threshold=0.5, groups=["a"] * 25 + [""] * 25) != by_image


def test_resamples_of_one_class_do_not_count():
    table = metrics.summary([0, 1], [0.2, 0.8], threshold=0.5)  # half of the draws hold one class only
    assert table["auc"] == table["sensitivity"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_perfect_scores_have_an_interval_without_width():
    labels = np.arange(40) % 2
    table = metrics.summary(labels, labels * 0.8 + 0.1, threshold=0.5)
    for name in BINARY - {"brier"}:
        assert table[name] == {"value": 1.0, "low": 1.0, "high": 1.0}, name


def test_summary_leaves_out_what_was_never_decided():
    table = metrics.summary([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], threshold=0.9)
    assert BINARY - table.keys() == {"ppv"}


def test_three_classes_agree_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 200)
    probabilities = generator.dirichlet([1, 1, 1], 200) + np.eye(3)[labels] * 0.5
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    table = metrics.summary(labels, probabilities, threshold=None, resamples=300)
    decided = probabilities.argmax(axis=1)
    expected = {
        "auc": sklearn.roc_auc_score(labels, probabilities, multi_class="ovr"),
        "accuracy": sklearn.accuracy_score(labels, decided),
        "balanced_accuracy": sklearn.balanced_accuracy_score(labels, decided),
    }
    assert {name: entry["value"] for name, entry in table.items()} == pytest.approx(expected)
    assert all(entry["low"] < entry["value"] < entry["high"] for entry in table.values())


def test_many_images_are_weighed_in_parts(monkeypatch):
    labels, scores = draw(4)
    whole = metrics.summary(labels, scores, threshold=0.5, resamples=100)
    monkeypatch.setattr("cxr_tfds.resampling._WEIGHTS_AT_ONCE", 7 * len(labels))
    assert metrics.summary(labels, scores, threshold=0.5, resamples=100) == whole


def test_seven_hundred_images_take_less_than_two_seconds():
    labels, scores = draw(5, images=700, steps=10**9)
    start = time.process_time()
    metrics.summary(labels, scores, threshold=0.5)
    assert time.process_time() - start < 2
