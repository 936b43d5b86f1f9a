"""Metrics of a split against scikit-learn and by hand, their intervals, and undefined metrics."""

import numpy as np
import pytest
from sklearn import metrics as sklearn
from sklearn.calibration import calibration_curve

from cxr_tfds.errors import InputError
from cxr_tfds.metrics.ranking import auc
from cxr_tfds.metrics.resampling import bootstrap_weights
from cxr_tfds.metrics.summary import evaluate_split

TWO_CLASSES = {
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


NOT_METRICS = {"averages", "confusion_matrix", "threshold", "rule", "images"}


def evaluate(labels, probabilities, threshold=0.5, **options):
    """The metrics alone."""
    table = evaluate_split(labels, probabilities, threshold, **options)
    return {name: value for name, value in table.items() if name not in NOT_METRICS}


def draw(seed, images=300, steps=20, shift=0.25):
    """Labels and probabilities, rounded to steps so that many are tied."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, images)
    scores = np.clip(generator.normal(0.4 + shift * labels, 0.2), 0, 1)
    return labels, np.round(scores * steps) / steps


def calibration_error(labels, probabilities):
    """ECE from scikit-learn's curve, which has the same bins if no probability is on an edge."""
    observed, predicted = calibration_curve(labels, probabilities, n_bins=15)
    counts, _ = np.histogram(probabilities, np.linspace(0, 1, 16))
    return np.sum(counts[counts > 0] * np.abs(observed - predicted)) / len(labels)


def by_scikit_learn(labels, scores):
    """Every metric of two classes at the threshold 0.5."""
    predicted = scores >= 0.5
    return {
        "auc": sklearn.roc_auc_score(labels, scores),
        "average_precision": sklearn.average_precision_score(labels, scores),
        "accuracy": sklearn.accuracy_score(labels, predicted),
        "balanced_accuracy": sklearn.balanced_accuracy_score(labels, predicted),
        "sensitivity": sklearn.recall_score(labels, predicted),
        "specificity": sklearn.recall_score(labels, predicted, pos_label=0),
        "ppv": sklearn.precision_score(labels, predicted),
        "npv": sklearn.precision_score(labels, predicted, pos_label=0),
        "f1": sklearn.f1_score(labels, predicted),
        "brier": sklearn.brier_score_loss(labels, scores),
        "ece": calibration_error(labels, scores),
    }


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn(seed):
    labels, scores = draw(seed, steps=17)
    table = evaluate(labels, scores, resamples=2)
    assert table.keys() == TWO_CLASSES
    assert {name: metric["value"] for name, metric in table.items()} == pytest.approx(
        by_scikit_learn(labels, scores)
    )
    assert {type(number) for metric in table.values() for number in metric.values()} == {float}


@pytest.mark.slow
def test_intervals_are_percentiles_over_the_resampled_images():
    labels, scores = draw(0, images=120, steps=17)
    (weights,) = bootstrap_weights(np.arange(120), 60, seed=3)
    drawn = [
        by_scikit_learn(*(np.repeat(values, times.astype(int)) for values in (labels, scores)))
        for times in weights
    ]
    for name, metric in evaluate(labels, scores, resamples=60, seed=3).items():
        low, high = np.percentile([each[name] for each in drawn], [2.5, 97.5])
        # Resampling increases the ECE, so its interval is extended to contain its value.
        expected = min(low, metric["value"]) if name == "ece" else low
        assert [metric["low"], metric["high"]] == pytest.approx([expected, high]), name
        assert low < high


def test_values_by_hand():
    labels, predicted = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 0, 0, 1, 1, 1, 1]
    table = evaluate_split(labels, 0.2 + 0.6 * np.array(predicted), 0.5)
    assert table["confusion_matrix"] == {"tn": 3, "fp": 1, "fn": 2, "tp": 4}
    assert {type(count) for count in table["confusion_matrix"].values()} == {int}
    assert (table["threshold"], table["images"]) == (0.5, 10)
    assert "rule" not in table  # the classes have no names
    expected = {
        "accuracy": 7 / 10,
        "sensitivity": 4 / 6,
        "specificity": 3 / 4,
        "ppv": 4 / 5,
        "npv": 3 / 5,
        "f1": 8 / 11,
        "balanced_accuracy": (4 / 6 + 3 / 4) / 2,
        "brier": (7 * 0.04 + 3 * 0.64) / 10,
        "ece": (5 * abs(0.2 - 2 / 5) + 5 * abs(0.8 - 4 / 5)) / 10,
    }
    assert {name: table[name]["value"] for name in expected} == pytest.approx(expected)


def test_averages_over_classes_agree_with_scikit_learn():
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 3, 60), generator.integers(0, 3, 60)
    table = evaluate_split(labels, np.eye(3)[predicted], None, class_names="abc", resamples=20)
    report = sklearn.classification_report(labels, predicted, output_dict=True)
    for kind in ("macro", "weighted"):
        expected = report[f"{kind} avg"]
        for rate, name in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            found = table["averages"][kind][rate]
            assert found["value"] == pytest.approx(expected[name])
            assert found["low"] < found["value"] < found["high"]


def test_average_is_undefined_where_a_class_is():
    """A class without images has no recall, but no weight either."""
    table = evaluate_split([0, 0, 1], np.eye(3)[[0, 1, 1]], None, class_names="abc", resamples=5)
    macro, weighted = table["averages"]["macro"], table["averages"]["weighted"]
    assert macro["recall"]["value"] is None
    assert macro["recall"]["undefined"] == "undefined for a class"
    assert weighted["recall"]["value"] == pytest.approx((0.5 * 2 + 1) / 3)


def test_confusion_matrix_of_three_classes_has_a_row_for_each_true_class():
    table = evaluate_split([0, 1, 2, 2], np.eye(3)[[0, 1, 1, 2]], None)
    assert table["confusion_matrix"] == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert (table["threshold"], table["images"]) == (None, 4)


def test_ranking_scores_separate_tied_probabilities():
    labels, logits = [0, 1, 1], np.array([40.0, 50.0, 60.0])
    tied = evaluate(labels, np.ones(3))
    ranked = evaluate(labels, np.ones(3), ranking_scores=logits)
    assert (tied["auc"]["value"], ranked["auc"]["value"]) == (0.5, 1.0)
    assert tied["average_precision"]["value"] == pytest.approx(2 / 3)
    assert ranked["average_precision"]["value"] == 1
    for name in TWO_CLASSES - {"auc", "average_precision"}:
        assert tied[name] == ranked[name]


def test_class_with_a_single_image_has_f1():
    assert evaluate([0, 0, 1], [0.1, 0.2, 0.9])["f1"]["value"] == 1


@pytest.mark.parametrize(("threshold", "sensitivity"), [(0.0, 1.0), (1.0, 0.5)])
def test_thresholds_at_both_ends(threshold, sensitivity):
    assert evaluate([0, 1, 1], [0.0, 0.5, 1.0], threshold)["sensitivity"]["value"] == sensitivity


def test_a_single_resample_is_its_own_interval():
    labels, scores = draw(0)
    metric = evaluate(labels, scores, resamples=1, seed=5)["brier"]
    (weights,) = bootstrap_weights(np.arange(len(labels)), 1, seed=5)
    drawn = np.average((scores - labels) ** 2, weights=weights[0])
    assert drawn in (pytest.approx(metric["low"]), pytest.approx(metric["high"]))


def test_seed_decides_the_resamples():
    labels, scores = draw(0)
    assert evaluate(labels, scores) == evaluate(labels, scores, resamples=1000, seed=0)
    one, same, other = (evaluate(labels, scores, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one["auc"]["low"] != other["auc"]["low"]
    assert one["auc"]["low"] == pytest.approx(other["auc"]["low"], abs=0.01)


def test_interval_agrees_with_resampling_one_by_one():
    labels, scores = draw(3, images=120)
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(2000):
        chosen = generator.integers(0, 120, 120)
        drawn.append(auc(labels[chosen], scores[chosen]))
    metric = evaluate(labels, scores, resamples=2000)["auc"]
    expected = np.percentile(drawn, [2.5, 97.5])
    assert [metric["low"], metric["high"]] == pytest.approx(expected, abs=0.01)


def test_images_of_one_patient_are_resampled_together():
    labels, scores = draw(1, images=60)
    single = evaluate(labels, scores)
    repeated = np.repeat(labels, 10), np.repeat(scores, 10)
    by_image = evaluate(*repeated)
    by_patient = evaluate(*repeated, patients=[f"p{n}" for n in np.repeat(np.arange(60), 10)])
    # Ten copies of an image are not ten patients: the same resamples as of the single images.
    assert by_patient["auc"] == pytest.approx(single["auc"])
    widths = [table["auc"]["high"] - table["auc"]["low"] for table in (by_image, by_patient)]
    assert widths[0] < widths[1] / 2


def test_unknown_patients_are_groups_of_their_own():
    labels, scores = draw(2, images=50)
    by_image = evaluate(labels, scores)
    assert evaluate(labels, scores, patients=[""] * 50) == by_image
    assert evaluate(labels, scores, patients=["a"] * 25 + [""] * 25) != by_image


def test_resamples_of_one_class_are_left_out():
    table = evaluate([0, 1], [0.2, 0.8])  # half of the resamples contain one class only
    assert table["auc"] == table["sensitivity"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_perfect_scores_have_intervals_of_width_zero():
    labels = np.arange(40) % 2
    table = evaluate(labels, labels * 0.8 + 0.1)
    for name in TWO_CLASSES - {"brier", "ece"}:
        assert table[name] == {"value": 1.0, "low": 1.0, "high": 1.0}, name


def undefined(reason):
    return {"value": None, "low": None, "high": None, "undefined": reason}


@pytest.mark.parametrize(
    ("threshold", "metric", "label"), [(0.9, "ppv", "SICK"), (0.05, "npv", "WELL")]
)
def test_predictive_value_without_predictions_is_undefined(threshold, metric, label):
    table = evaluate([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], threshold, class_names=("WELL", "SICK"))
    classes = table.pop("classes")
    assert [name for name in table if table[name]["value"] is None] == [metric]
    reason = f"no image was predicted as {label}"
    assert table[metric] == classes[label]["precision"] == undefined(reason)


@pytest.mark.parametrize(
    ("labels", "metrics", "missing"),
    [
        ([0, 0, 0], {"sensitivity", "f1"}, "SICK"),
        ([1, 1, 1], {"specificity"}, "WELL"),
    ],
)
def test_metrics_of_a_missing_class_are_undefined(labels, metrics, missing):
    table = evaluate(labels, [0.2, 0.4, 0.7], class_names=("WELL", "SICK"))
    classes = table.pop("classes")
    found = {name for name, metric in table.items() if metric["value"] is None}
    assert found == metrics | {"auc", "average_precision", "balanced_accuracy"}
    for name in found:
        assert table[name] == undefined(f"no image is labelled {missing}")
    (present,) = {"WELL", "SICK"} - {missing}
    assert table["accuracy"]["value"] == pytest.approx(2 / 3 if present == "WELL" else 1 / 3)
    assert classes[missing]["support"] == 0
    for rate in ("recall", "f1"):
        assert classes[missing][rate] == undefined(f"no image is labelled {missing}")
    assert classes[present]["recall"]["value"] == table["accuracy"]["value"]


def test_missing_classes_of_several_are_named():
    table = evaluate([0, 0], np.full((2, 3), 1 / 3), None, class_names=("a", "b", "c"))
    assert table["auc"] == table["balanced_accuracy"]
    assert table["auc"] == undefined("no image is labelled b or c")
    assert table["classes"]["b"]["auc"]["undefined"] == "no image is labelled b or c"


def test_interval_needs_enough_resamples():
    """Twelve classes of one patient each: few resamples contain all, so there is no interval."""
    table = evaluate(np.arange(12), np.eye(12) * 0.9 + 0.1 / 12, None, resamples=200)
    reason = "too few patients for an interval"
    assert table["auc"] == {"value": 1.0, "low": None, "high": None, "undefined": reason}
    assert table["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_sensitivity_to_each_finding():
    labels = [0, 0, 1, 1, 1, 1, 1]
    findings = ["none", "", "virus", "virus", "bacteria", "bacteria", ""]
    probabilities = [0.1, 0.9, 0.9, 0.1, 0.9, 0.9, 0.1]
    complete = evaluate(labels, probabilities, findings=findings, class_names=("NO", "YES"))
    assert [complete["classes"][name]["support"] for name in ("NO", "YES")] == [2, 5]
    table = complete["findings"]
    assert list(table) == ["bacteria", "virus"]
    assert table["bacteria"] == {
        "sensitivity": {"value": 1.0, "low": 1.0, "high": 1.0},
        "images": 2,
    }
    assert table["virus"] == {"sensitivity": {"value": 0.5, "low": 0.0, "high": 1.0}, "images": 2}


def test_sensitivity_to_a_finding_of_three_classes_accepts_any_positive_class():
    probabilities = np.eye(3)[[0, 2, 0, 1, 2]]
    findings = ["none", "a", "a", "b", "b"]
    table = evaluate([0, 1, 1, 2, 2], probabilities, None, findings=findings)["findings"]
    assert [table[name]["sensitivity"]["value"] for name in ("a", "b")] == [0.5, 1.0]


@pytest.mark.parametrize("findings", [None, ["none", "virus", "virus"], ["", "", ""]])
def test_fewer_than_two_findings_give_no_table(findings):
    assert "findings" not in evaluate([0, 1, 1], [0.1, 0.9, 0.2], findings=findings)


def test_three_classes_agree_with_scikit_learn():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 200)
    probabilities = generator.dirichlet([1, 1, 1], 200) + np.eye(3)[labels] * 0.5
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = ("a", "b", "c")
    table = evaluate(labels, probabilities, None, class_names=names, resamples=300)
    predicted = probabilities.argmax(axis=1)
    classes = table.pop("classes")
    expected = {
        "auc": sklearn.roc_auc_score(labels, probabilities, multi_class="ovr"),
        "accuracy": sklearn.accuracy_score(labels, predicted),
        "balanced_accuracy": sklearn.balanced_accuracy_score(labels, predicted),
        "brier": np.mean(np.sum((probabilities - np.eye(3)[labels]) ** 2, axis=1)),
        "ece": calibration_error(predicted == labels, probabilities.max(axis=1)),
    }
    assert {name: metric["value"] for name, metric in table.items()} == pytest.approx(expected)
    for name in expected.keys() - {"ece"}:
        assert table[name]["low"] < table[name]["value"] < table[name]["high"]
    rows = np.transpose(sklearn.precision_recall_fscore_support(labels, predicted))
    for number, name in enumerate(names):
        metrics = classes[name]
        found = [metrics[rate]["value"] for rate in ("precision", "recall", "f1")]
        assert [*found, metrics["support"]] == pytest.approx(rows[number])
        expected = sklearn.roc_auc_score(labels == number, probabilities[:, number])
        assert metrics["auc"]["value"] == pytest.approx(expected)
        assert metrics["recall"]["low"] < metrics["recall"]["value"] < metrics["recall"]["high"]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([0, 1], [0.1, np.nan], 0.5), {}, "probabilities contain nan; expected finite"),
        (([0, 1], [0, 1], 0.5), {"ranking_scores": [1, np.inf]}, "scores contain inf; expected"),
    ],
)
def test_refuses_nan(arguments, options, message):
    with pytest.raises(InputError, match=message):
        evaluate_split(*arguments, **options)


def test_resampling_in_parts_gives_the_same(monkeypatch):
    labels, scores = draw(4)
    complete = evaluate(labels, scores, resamples=100)
    monkeypatch.setattr("cxr_tfds.metrics.resampling._MAX_WEIGHTS", 7 * len(labels))
    assert evaluate(labels, scores, resamples=100) == complete
