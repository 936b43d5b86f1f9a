"""Comparisons of an exported model with its Keras model, worked by hand."""

import dataclasses

import numpy as np
import pytest

from cxr_tfds.export.check import (
    Comparison,
    Reference,
    compare,
    explain_failure,
    find_doubts,
    judge,
    judge_findings,
    matching_threshold,
)


def reference(labels, logits, threshold=None, temperature=1.0):
    return Reference(np.array(labels), np.array(logits, np.float32), threshold, temperature)


def test_comparison_of_two_classes():
    keras = reference([0, 0, 1, 1], [-2, 1, -1, 2], 0.5)  # probabilities 0.12, 0.73, 0.27, 0.88
    found = compare(keras, np.array([-2, -1, -1, 0], np.float32), 0.5)
    assert (found.images, found.agreement) == (4, 0.75)
    # Wilson: (0.75 + z2 / 8 -+ z * sqrt(0.75 * 0.25 / 4 + z2 / 64)) / (1 + z2 / 4), z2 = 3.8415
    interval = (found.agreement_low, found.agreement_high)
    assert interval == (pytest.approx(0.3006, abs=1e-4), pytest.approx(0.9544, abs=1e-4))
    assert (found.accuracy_keras, found.accuracy) == (0.5, 0.75)
    assert (found.auc_keras, found.auc) == (0.75, 0.875)
    assert found.max_difference == pytest.approx(0.4621172)  # sigmoid(1) - sigmoid(-1)
    assert found.mean_difference == pytest.approx((0.4621172 + 0.8807971 - 0.5) / 4)


def test_comparison_of_three_classes():
    keras = reference([0, 1, 2], [[2, 0, 0], [0, 2, 0], [0, 2, 0]])
    other = np.array([[2, 0, 0], [0, 2, 0], [0, 0, 2]], np.float32)
    found = compare(keras, other, None)
    # One class against the others: 1, 0.75 (a tie), 0.5 (two ties).
    assert (found.auc_keras, found.auc) == (0.75, 1)
    assert found.agreement == pytest.approx(2 / 3)
    assert (found.accuracy_keras, found.accuracy) == (pytest.approx(2 / 3), 1)
    assert matching_threshold(keras, other) is None


def test_auc_of_three_classes_depends_on_the_temperature():
    """Class 0 has 0.51, 0.58, 0.00 in the images at temperature 1; 0.343, 0.336, 0.323 at 100."""
    keras = reference([0, 1, 2], [[3, 2.9, 0], [1, 0, 0], [0, 0, 9]])
    found = compare(keras, keras.logits, None, temperature=100)
    assert found.auc_keras == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert found.auc == pytest.approx((1 + 0.5 + 1) / 3)
    warm = keras._replace(temperature=100)
    assert compare(warm, keras.logits, None, 100).auc_keras == found.auc


@pytest.mark.parametrize(("labels", "logits"), [([0, 0], [1, 2]), ([0, 1], [[1, 0, 0], [0, 1, 0]])])
def test_no_auc_if_a_class_has_no_image(labels, logits):
    threshold = 0.5 if np.ndim(logits) == 1 else None
    found = compare(reference(labels, logits, threshold), np.array(logits, np.float32), threshold)
    assert (found.auc, found.auc_keras, found.agreement) == (None, None, 1)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([-3, -2, 2, 3], 0.5),  # every decision agrees: the Keras model's threshold
        ([-3, 0.5, 1.5, 3], 0.73),  # shifted: between the two in the middle
        ([0, 0, 0, 0], 0.25),  # constant: one decision for all
    ],
)
def test_matching_threshold(logits, expected, temperature):
    keras = reference([0, 0, 1, 1], [-3, -2, 2, 3], 0.5)
    logits = temperature * np.array(logits, np.float32)
    assert matching_threshold(keras, logits, temperature) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    ("keras_temperature", "temperature", "expected"),
    [
        (1.0, 1.0, 0.2),
        (1.0, 2.0, 1 / 3),  # odds of 1 to 4 become 1 to 2
        (1.0, 0.5, 1 / 17),  # and 1 to 16
        (2.0, 1.0, 1 / 17),
        (2.0, 2.0, 0.2),
    ],
)
def test_matching_threshold_follows_the_temperature(keras_temperature, temperature, expected):
    keras = reference([0, 0, 1, 1], [-3, -2, 2, 3], 0.2, keras_temperature)
    assert matching_threshold(keras, keras.logits, temperature) == pytest.approx(expected)


@pytest.mark.parametrize("threshold", [0.0, 1.0])
@pytest.mark.filterwarnings("default")  # without the guard, NumPy warns of log(0)
def test_matching_threshold_keeps_0_and_1(threshold, recwarn):
    keras = reference([0, 0, 1, 1], [-3, -2, 2, 3], threshold)
    assert matching_threshold(keras, keras.logits, 2.0) == threshold
    assert not recwarn.list


def test_matching_threshold_of_1_that_temperature_makes_unreachable():
    """sigmoid(40) is 1 in float64 and sigmoid(20) is not, so another threshold must separate."""
    keras = reference([0, 0, 1, 1], [-3, -2, 40, 50], 1.0)
    assert keras.decisions.tolist() == [0, 0, 1, 1]
    assert 0.5 < matching_threshold(keras, keras.logits, 2.0) < 1


@pytest.mark.parametrize(("threshold", "expected"), [(0.0, [1, 1, 1]), (1.0, [0, 0, 1])])
def test_comparison_at_thresholds_0_and_1(threshold, expected):
    """sigmoid(-1000) is exactly 0, sigmoid(40) exactly 1."""
    keras = reference(expected, [-1000, 3, 40], threshold)
    assert keras.decisions.tolist() == expected
    found = compare(keras, keras.logits, threshold)
    assert (found.agreement, found.accuracy_keras, found.accuracy) == (1, 1, 1)


def test_comparison_decides_at_the_temperature():
    """sigmoid(2) is 0.88, and sigmoid(2 / 4) only 0.62."""
    keras = reference([0, 1, 1], [-2, 2, 8], 0.5)
    found = compare(keras, keras.logits, 0.7, temperature=4.0)
    assert found.agreement == found.accuracy == pytest.approx(2 / 3)
    assert found.max_difference == 0  # both at temperature 1


_GOOD = Comparison(100, 0.98, 0.9, 0.9, 0.8, 0.8, 0.1, 0.01)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"auc": 0.894}, "its AUC is 0.8940, 0.9000 in Keras; at most 0.005 may be lost"),
        ({"auc": 0.896}, None),
        ({"auc": 0.95}, None),  # better
        (
            {"agreement": 0.9799},
            "it makes 97.99% of the Keras model's decisions; expected at least 98.00%",
        ),
        (
            {"agreement": 0.9, "agreement_low": 0.825, "agreement_high": 0.945},
            "it makes 90.00% (95% CI 82.50% to 94.50%) of the Keras model's decisions; expected "
            "at least 98.00%",
        ),
        ({"auc": None, "auc_keras": None}, None),
    ],
)
def test_explain_failure(changes, reason):
    assert explain_failure(dataclasses.replace(_GOOD, **changes), 0.005, 0.98) == reason


def test_explain_failure_of_three_classes():
    keras = reference([0, 1, 2], [[2, 0, 0], [0, 2, 0], [0, 0, 2]])
    found = compare(keras, np.array([[2, 0, 0], [0, 2, 0], [0, 2, 0]], np.float32), None)
    expected = "its AUC is 0.7500, 1.0000 in Keras; at most 0.005 may be lost"
    assert explain_failure(found, 0.005, 0.6) == expected
    assert explain_failure(found, 0.25, 0.6) is None


def test_judge_fits_on_validation_and_compares_every_split():
    keras = {
        "validation": reference([0, 0, 1, 1], [-2, -1, 1, 2], 0.5),
        "test": reference([0, 1], [-1, 1], 0.5),
    }
    same = judge(keras, {split: one.logits for split, one in keras.items()})
    larger = judge(keras, {split: 4 * one.logits for split, one in keras.items()})
    assert larger.temperature == pytest.approx(4 * same.temperature, rel=1e-4)
    assert larger.threshold == pytest.approx(0.5)
    assert larger.comparisons.keys() == {"validation", "test"}
    assert [table.agreement for table in larger.comparisons.values()] == [1, 1]


def test_judge_decides_at_the_fitted_temperature():
    """At temperature 1 the last test image would be below the threshold."""
    keras = {
        "validation": reference([0, 0, 1, 1], [-3, -2, 2, 3], 0.2),
        "test": reference([0, 1], [-3, -1], 0.2),
    }
    verdict = judge(keras, {split: one.logits for split, one in keras.items()})
    assert verdict.temperature > 2
    odds = verdict.threshold / (1 - verdict.threshold)
    assert odds == pytest.approx(0.25 ** (1 / verdict.temperature))
    assert verdict.threshold > 1 / (1 + np.exp(1))
    assert verdict.comparisons["test"].agreement == verdict.comparisons["test"].accuracy == 1


def agreeing(images, equal):
    """Returns a comparison in which `equal` of `images` decisions agree."""
    labels = [0, 1] * images
    keras = reference(labels[:images], [-1, 1] * (images // 2) + [-1] * (images % 2), 0.5)
    logits = keras.logits.copy()
    logits[equal:] *= -1
    return compare(keras, logits, 0.5)


def test_doubts_about_few_validation_images_and_a_worse_test_split():
    few, worse = find_doubts({"validation": agreeing(19, 19), "test": agreeing(16, 15)}, 1, 0.98)
    assert few == (
        "validation has 19 images. Even if all of their decisions agree, only an agreement of "
        "83.2% is certain (95% CI); 189 images would show 98.0%."
    )
    assert worse == (
        "on test (16 images) it makes 93.75% (95% CI 71.67% to 98.89%) of the Keras model's "
        "decisions; expected at least 98.00%."
    )


@pytest.mark.parametrize(
    ("validation", "test", "min_agreement", "begins"),
    [
        ((189, 189), (50, 49), 0.98, []),
        ((188, 188), (50, 49), 0.98, ["validation has 188 images"]),
        ((189, 189), (50, 48), 0.98, ["on test (50 images)"]),
        ((19, 19), (16, 15), 0, []),
        ((19, 19), (16, 16), 1, []),  # no number of images would do
        ((189, 189), None, 0.98, []),
    ],
)
def test_doubts(validation, test, min_agreement, begins):
    tables = {"validation": agreeing(*validation)} | ({"test": agreeing(*test)} if test else {})
    doubts = find_doubts(tables, 1, min_agreement)
    assert len(doubts) == len(begins)
    assert all(doubt.startswith(begin) for doubt, begin in zip(doubts, begins, strict=True))


def test_a_lower_auc_on_test_is_a_doubt():
    (doubt,) = find_doubts(
        {"validation": agreeing(189, 189), "test": agreeing(50, 49)}, 0.005, 0.98
    )
    assert doubt.startswith("on test (50 images) its AUC is 0.9")


NAN = np.nan


def findings_references(labels, logits, thresholds, temperatures):
    """Returns a reference for each finding a, b, c."""
    columns = zip(np.array(labels, np.float32).T, logits.T, thresholds, temperatures, strict=True)
    return {name: Reference(*column) for name, column in zip("abc", columns, strict=True)}


@pytest.fixture
def keras_findings():
    """Twelve images: `a` is perfect, `b` has states in half of them, `c` is never present."""
    place = np.arange(12)
    labels = np.stack([place % 2, np.where(place < 6, place % 2, NAN), 0 * place], axis=1)
    logits = np.stack([4.0 * (place % 2) - 2, 2.0 * (place % 2) - 1, place - 6.5], axis=1)
    return findings_references(labels, logits.astype(np.float32), (0.5, 0.4, 0.5), (0.8, 1.2, 1.0))


def logits_of(keras):
    return np.stack([reference.logits for reference in keras.values()], axis=1)


def test_findings_are_judged_one_by_one(keras_findings):
    keras = {"validation": keras_findings, "test": keras_findings}
    logits = logits_of(keras_findings)
    verdict = judge_findings(keras, {"validation": logits, "test": logits})
    for number, name in enumerate("ab"):
        alone = keras_findings[name]
        counted = alone.counted
        known = alone._replace(labels=alone.known_labels, logits=alone.logits[counted])
        expected = judge({"validation": known}, {"validation": known.logits})
        assert verdict.temperature[number] == expected.temperature
        assert verdict.threshold[number] == expected.threshold
    # Neither is fitted without present images.
    assert (verdict.temperature[2], verdict.threshold[2]) == (1.0, 0.5)
    assert verdict.not_judged == ["c"]
    table = verdict.comparisons["test"]
    assert list(table.findings) == ["a", "b", "c"]
    assert (table.images, table.agreement, table.auc) == (12, 1, 1)
    assert table.findings["c"].auc is None
    assert table.findings["c"].accuracy == 7 / 12
    assert table.accuracy == pytest.approx((1 + 1 + 7 / 12) / 3)


def test_the_worst_finding_decides(keras_findings):
    logits = logits_of(keras_findings)
    logits[:, 1] = np.where(np.arange(12) < 3, -logits[:, 1], logits[:, 1])
    table = judge_findings({"validation": keras_findings}, {"validation": logits}).comparisons[
        "validation"
    ]
    assert table.findings["a"].agreement == 1
    assert table.findings["b"].agreement == 0.75
    assert table.agreement == pytest.approx((1 + 0.75 + 1) / 3)
    assert explain_failure(table, 1.0, 0.9) == (
        "for b it makes 75.00% (95% CI 46.77% to 91.11%) of the Keras model's decisions; "
        "expected at least 90.00%"
    )
    assert explain_failure(table, 0.005, 0.5).startswith("for b its AUC is 0.5")
    assert explain_failure(table, 1.0, 0.7) is None
    assert explain_failure(table, 1.0, 1.1).endswith("at least 110.00% (2 findings fail)")


def test_a_finding_that_is_not_judged_prevents_nothing(keras_findings):
    logits = logits_of(keras_findings)
    logits[:, 2] = 9 - logits[:, 2]
    verdict = judge_findings({"validation": keras_findings}, {"validation": logits})
    table = verdict.comparisons["validation"]
    assert table.findings["c"].agreement < 0.5
    assert explain_failure(table, 0.005, 0.98) is None


def test_a_finding_without_any_label_is_compared():
    labels, logits = np.full((4, 3), NAN), np.array([[-1.0, 0.5, 2]] * 4, np.float32)
    keras = findings_references(labels, logits, (0.5,) * 3, (1.0,) * 3)
    verdict = judge_findings({"validation": keras}, {"validation": logits})
    table = verdict.comparisons["validation"]
    assert (table.auc, table.accuracy, table.agreement) == (None, None, 1)
    assert verdict.threshold == (0.5, 0.5, 0.5)
