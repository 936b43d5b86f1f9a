"""The figures of a split: against scikit-learn, by hand, their intervals, and what is undefined."""

import time

import numpy as np
import pytest
from sklearn import metrics as sklearn
from sklearn.calibration import calibration_curve

from cxr_tfds.errors import InputError
from cxr_tfds.metrics import metrics
from cxr_tfds.metrics.resampling import resample
from cxr_tfds.metrics.summary import summary
from cxr_tfds.metrics.table import figures

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
    "ece",
}


def draw(seed, images=300, steps=20, shift=0.25):
    """Labels and probabilities in `steps` steps, so that many are tied."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, images)
    scores = np.clip(generator.normal(0.4 + shift * labels, 0.2), 0, 1)
    return labels, np.round(scores * steps) / steps


def calibration_error(labels, probabilities):
    """After scikit-learn's curve, whose bins hold their upper end: the same where no probability is on an edge."""
    observed, predicted = calibration_curve(labels, probabilities, n_bins=metrics.BINS)
    counts = np.bincount(metrics.reliability_bins(probabilities), minlength=metrics.BINS)
    return np.sum(counts[counts > 0] * np.abs(observed - predicted)) / len(labels)


def by_scikit_learn(labels, scores):
    """Every figure of two classes at the threshold 0.5."""
    decided = scores >= 0.5
    return {
        "auc": sklearn.roc_auc_score(labels, scores),
        "average_precision": sklearn.average_precision_score(labels, scores),
        "accuracy": sklearn.accuracy_score(labels, decided),
        "balanced_accuracy": sklearn.balanced_accuracy_score(labels, decided),
        "sensitivity": sklearn.recall_score(labels, decided),
        "specificity": sklearn.recall_score(labels, decided, pos_label=0),
        "ppv": sklearn.precision_score(labels, decided),
        "npv": sklearn.precision_score(labels, decided, pos_label=0),
        "f1": sklearn.f1_score(labels, decided),
        "brier": sklearn.brier_score_loss(labels, scores),
        "ece": calibration_error(labels, scores),
    }


@pytest.mark.parametrize("seed", range(5))
def test_figures_agree_with_scikit_learn(seed):
    labels, scores = draw(seed, steps=17)
    table = summary(labels, scores, threshold=0.5, resamples=2)
    assert table.keys() == BINARY
    assert {name: entry["value"] for name, entry in table.items()} == pytest.approx(
        by_scikit_learn(labels, scores)
    )
    assert {type(number) for entry in table.values() for number in entry.values()} == {float}


def test_intervals_are_percentiles_of_scikit_learn_over_the_resampled_images():
    labels, scores = draw(0, images=120, steps=17)
    (weights,) = resample(np.arange(120), 60, seed=3)
    drawn = [
        by_scikit_learn(*(np.repeat(of, times.astype(int)) for of in (labels, scores)))
        for times in weights
    ]
    for name, entry in summary(labels, scores, threshold=0.5, resamples=60, seed=3).items():
        low, high = np.percentile([each[name] for each in drawn], [2.5, 97.5])
        # The calibration error grows by resampling: its interval is made to hold its value.
        expected = min(low, entry["value"]) if name == "ece" else low
        assert [entry["low"], entry["high"]] == pytest.approx([expected, high]), name
        assert low < entry["value"] < high or name == "ece"
        assert 0 < high - low < 0.5


def test_figures_by_hand():
    labels, decided = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 0, 0, 1, 1, 1, 1]
    table = figures(labels, 0.2 + 0.6 * np.array(decided), 0.5)
    assert table["confusion_matrix"] == {"tn": 3, "fp": 1, "fn": 2, "tp": 4}
    expected = {
        "accuracy": 7 / 10,
        "sensitivity": 4 / 6,
        "specificity": 3 / 4,
        "ppv": 4 / 5,
        "npv": 3 / 5,
    }
    expected |= {
        "f1": 8 / 11,
        "balanced_accuracy": (4 / 6 + 3 / 4) / 2,
        "brier": (7 * 0.04 + 3 * 0.64) / 10,
    }
    expected["ece"] = (5 * abs(0.2 - 2 / 5) + 5 * abs(0.8 - 4 / 5)) / 10
    assert {name: table[name]["value"] for name in expected} == pytest.approx(expected)
    of_three = figures([0, 1, 2, 2], np.eye(3)[[0, 1, 1, 2]], None)
    assert of_three["confusion_matrix"] == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]


def test_images_are_ranked_by_what_is_given():
    """Probabilities that round to 1 are tied; their logits are not."""
    labels, logits = [0, 1, 1], np.array([40.0, 50.0, 60.0])
    plain = summary(labels, np.ones(3), threshold=0.5)
    ranked = summary(labels, np.ones(3), threshold=0.5, ranked_by=logits)
    assert (plain["auc"]["value"], ranked["auc"]["value"]) == (0.5, 1.0)
    assert (plain["average_precision"]["value"], ranked["average_precision"]["value"]) == (
        pytest.approx(2 / 3),
        1.0,
    )
    others = BINARY - {"auc", "average_precision"}
    assert {name: plain[name] for name in others} == {name: ranked[name] for name in others}


def test_summary_is_repeatable_and_the_seed_counts():
    labels, scores = draw(0)
    one, same, other = (summary(labels, scores, threshold=0.5, seed=seed) for seed in (0, 0, 1))
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
    entry = summary(labels, scores, threshold=0.5, resamples=2000)["auc"]
    assert [entry["low"], entry["high"]] == pytest.approx(
        np.percentile(drawn, [2.5, 97.5]), abs=0.01
    )


def test_images_of_one_patient_are_drawn_together():
    labels, scores = draw(1, images=60)
    each = summary(labels, scores, threshold=0.5)
    repeated = {
        "labels": np.repeat(labels, 10),
        "probabilities": np.repeat(scores, 10),
        "threshold": 0.5,
    }
    by_image = summary(**repeated)
    by_patient = summary(**repeated, groups=[f"p{n}" for n in np.repeat(np.arange(60), 10)])
    # Ten copies of an image are no ten patients: the same draws as of the single images.
    assert by_patient["auc"] == pytest.approx(each["auc"])
    widths = [table["auc"]["high"] - table["auc"]["low"] for table in (by_image, by_patient)]
    assert widths[0] < widths[1] / 2


def test_unknown_patients_are_groups_of_their_own():
    labels, scores = draw(2, images=50)
    by_image = summary(labels, scores, threshold=0.5)
    assert summary(labels, scores, threshold=0.5, groups=[""] * 50) == by_image
    assert summary(labels, scores, threshold=0.5, groups=["a"] * 25 + [""] * 25) != by_image


def test_resamples_of_one_class_do_not_count():
    table = summary([0, 1], [0.2, 0.8], threshold=0.5)  # half of the draws hold one class only
    assert table["auc"] == table["sensitivity"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_perfect_scores_have_an_interval_without_width():
    labels = np.arange(40) % 2
    table = summary(labels, labels * 0.8 + 0.1, threshold=0.5)
    for name in BINARY - {"brier", "ece"}:
        assert table[name] == {"value": 1.0, "low": 1.0, "high": 1.0}, name


def undefined(why):
    return {"value": None, "low": None, "high": None, "undefined": why}


def test_what_was_never_decided_is_undefined():
    table = summary([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], threshold=0.9)
    assert {name for name, entry in table.items() if entry["value"] is None} == {"ppv"}
    assert table["ppv"] == undefined("no image was decided to be 1")


@pytest.mark.parametrize(
    ("labels", "lost", "why"),
    [
        (
            [0, 0, 0],
            {"auc", "average_precision", "balanced_accuracy", "sensitivity", "f1"},
            "no image is labelled SICK",
        ),
        (
            [1, 1, 1],
            {"auc", "average_precision", "balanced_accuracy", "specificity"},
            "no image is labelled WELL",
        ),
    ],
)
def test_one_class_only_is_neither_0_nor_1(labels, lost, why):
    table = summary(labels, [0.2, 0.4, 0.7], threshold=0.5, names=("WELL", "SICK"))
    assert {
        name for name, entry in table.items() if "value" in entry and entry["value"] is None
    } == lost
    assert all(table[name] == undefined(why) for name in lost)
    assert table["accuracy"]["value"] == pytest.approx(
        labels.count(labels[0]) / 3 * (2 / 3 if labels[0] == 0 else 1 / 3)
    )
    absent, present = ("SICK", "WELL") if labels[0] == 0 else ("WELL", "SICK")
    assert table["classes"][absent]["recall"] == table["classes"][absent]["f1"] == undefined(why)
    assert table["classes"][absent]["support"] == 0
    assert table["classes"][present]["recall"]["value"] == table["accuracy"]["value"]


def test_an_interval_needs_enough_resamples():
    """Twelve classes of one patient each: hardly a resample holds them all, so the AUC has no interval."""
    table = summary(np.arange(12), np.eye(12) * 0.9 + 0.1 / 12, threshold=None, resamples=200)
    assert (table["auc"]["value"], table["auc"]["low"]) == (1.0, None)
    assert table["auc"]["undefined"] == "too few patients for an interval"
    assert table["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_sensitivity_of_each_finding():
    labels = [0, 0, 1, 1, 1, 1, 1]
    findings = ["none", "", "virus", "virus", "bacteria", "bacteria", ""]
    table = summary(labels, [0.1, 0.9, 0.9, 0.1, 0.9, 0.9, 0.1], threshold=0.5, findings=findings)[
        "findings"
    ]
    assert list(table) == ["bacteria", "virus"]
    assert (table["virus"]["images"], table["virus"]["sensitivity"]["value"]) == (2, 0.5)
    assert table["virus"]["sensitivity"]["low"] < table["virus"]["sensitivity"]["high"]
    assert table["bacteria"]["sensitivity"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    of_three = np.eye(3)[[0, 2, 0, 1, 2]]
    three = summary(
        [0, 1, 1, 2, 2], of_three, threshold=None, findings=["none", "a", "a", "b", "b"]
    )["findings"]
    assert [three[kind]["sensitivity"]["value"] for kind in ("a", "b")] == [
        0.5,
        1.0,
    ]  # called anything but class 0


@pytest.mark.parametrize("findings", [None, ["none", "virus", "virus"], ["", "", ""]])
def test_one_finding_is_no_table(findings):
    assert "findings" not in summary([0, 1, 1], [0.1, 0.9, 0.2], threshold=0.5, findings=findings)


def test_three_classes_agree_with_scikit_learn():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 200)
    probabilities = generator.dirichlet([1, 1, 1], 200) + np.eye(3)[labels] * 0.5
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = ("a", "b", "c")
    table = summary(labels, probabilities, threshold=None, names=names, resamples=300)
    decided = probabilities.argmax(axis=1)
    expected = {
        "auc": sklearn.roc_auc_score(labels, probabilities, multi_class="ovr"),
        "accuracy": sklearn.accuracy_score(labels, decided),
        "balanced_accuracy": sklearn.balanced_accuracy_score(labels, decided),
        "brier": np.mean(np.sum((probabilities - np.eye(3)[labels]) ** 2, axis=1)),
        "ece": calibration_error(decided == labels, probabilities.max(axis=1)),
    }
    classes = table.pop("classes")
    assert {name: entry["value"] for name, entry in table.items()} == pytest.approx(expected)
    assert all(
        entry["low"] < entry["value"] < entry["high"]
        for name, entry in table.items()
        if name != "ece"
    )
    rows = sklearn.precision_recall_fscore_support(labels, decided)
    for number, name in enumerate(names):
        ours = classes[name]
        found = [
            ours["precision"]["value"],
            ours["recall"]["value"],
            ours["f1"]["value"],
            ours["support"],
        ]
        assert found == pytest.approx([row[number] for row in rows])
        assert ours["auc"]["value"] == pytest.approx(
            sklearn.roc_auc_score(labels == number, probabilities[:, number])
        )
        assert ours["recall"]["low"] < ours["recall"]["value"] < ours["recall"]["high"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: summary([0, 1], [0, 1], threshold=None), "threshold=None; expected 0 to 1"),
        (lambda: summary([0, 1], [0, 1], threshold=float("nan")), "threshold=nan"),
        (lambda: summary([0, 1], [0, 1], threshold=0.5, resamples=0), "resamples=0"),
        (lambda: summary([0, 1], [0, 1, 1], threshold=0.5), "3 probabilities for 2 labels"),
        (
            lambda: summary([0, 1], [0.5, 1.5], threshold=0.5),
            "probabilities from 0.5 to 1.5; expected 0 to 1",
        ),
        (lambda: summary([0, 1], [0, 1], threshold=0.5, ranked_by=[1]), "1 scores for 2 labels"),
        (
            lambda: summary([0, 1], [0, 1], threshold=0.5, ranked_by=[1, np.inf]),
            "scores hold inf; expected finite",
        ),
        (lambda: summary([0, 1], [0, 1], threshold=0.5, groups=["a"]), "1 groups for 2 labels"),
        (lambda: summary([0, 1], [0, 1], threshold=0.5, groups=[b"a", b"b"]), "is a bytes"),
        (lambda: summary([0, 1], [0, 1], threshold=0.5, findings=["a"]), "1 findings for 2 labels"),
        (lambda: summary([0, 1], np.full((2, 2), 0.5), threshold=None), "2 columns"),
        (lambda: summary([0, 1, 2], np.eye(3), threshold=0.5), "threshold=0.5; expected None"),
        (
            lambda: summary([0, 1, 3], np.eye(3), threshold=None),
            "label 3; expected whole numbers from 0 to 2",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_many_images_are_weighed_in_parts(monkeypatch):
    labels, scores = draw(4)
    whole = summary(labels, scores, threshold=0.5, resamples=100)
    monkeypatch.setattr("cxr_tfds.metrics.resampling._WEIGHTS_AT_ONCE", 7 * len(labels))
    assert summary(labels, scores, threshold=0.5, resamples=100) == whole


def test_seven_hundred_images_take_less_than_two_seconds():
    labels, scores = draw(5, images=700, steps=10**9)
    start = time.process_time()
    summary(labels, scores, threshold=0.5)
    assert time.process_time() - start < 2
