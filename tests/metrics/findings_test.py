"""Metrics of several findings against those of each alone, their means, and undefined ones."""

import numpy as np
import pytest

from cxr_tfds.metrics.findings import evaluate_findings
from cxr_tfds.metrics.logits import decisions, probabilities
from cxr_tfds.metrics.summary import evaluate_split
from cxr_tfds.metrics.table import format_metrics

NAN = np.nan


def draw(images=120):
    """Targets with NaN, probabilities and patients of two images each."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (images, 2))
    values = np.clip(rng.normal(0.4 + 0.2 * truth, 0.2), 0.01, 0.99)
    targets = np.where(rng.random((images, 2)) < 0.3, NAN, truth)
    return targets, values, [f"p{i // 2}" for i in range(images)]


def test_values_are_those_of_each_finding_alone():
    targets, values, patients = draw()
    table = evaluate_findings(targets, values, (0.5, 0.6), patients, names=("a", "b"))
    for k, (name, threshold) in enumerate({"a": 0.5, "b": 0.6}.items()):
        known = ~np.isnan(targets[:, k])
        alone = evaluate_split(targets[known, k].astype(int), values[known, k], threshold)
        own = table["findings"][name]
        for metric, result in alone.items():
            if isinstance(result, dict) and "low" in result:
                assert own[metric]["value"] == result["value"], metric
        assert own["confusion_matrix"] == alone["confusion_matrix"]
        assert (own["threshold"], own["images"]) == (threshold, known.sum())
        assert own["positives"] == np.nansum(targets[:, k])
    assert (table["task"], table["images"]) == ("findings", 120)


def test_means_share_the_resamples_of_patients():
    targets, values, patients = draw()
    same = np.stack([targets[:, 0]] * 2, axis=1), np.stack([values[:, 0]] * 2, axis=1)
    twice = evaluate_findings(*same, (0.5, 0.5), patients, names=("a", "b"))
    # The mean of a finding with itself is the finding, with the same interval.
    assert twice["auc"] == twice["findings"]["a"]["auc"]
    table = evaluate_findings(targets, values, (0.5, 0.5), patients, names=("a", "b"))
    own = [table["findings"][name]["auc"] for name in "ab"]
    assert table["auc"]["value"] == pytest.approx(np.mean([each["value"] for each in own]))
    widths = [each["high"] - each["low"] for each in own]
    assert 0 < table["auc"]["high"] - table["auc"]["low"] < max(widths)


def test_worked_by_hand():
    targets = np.array([[1, NAN], [0, 1], [1, 0], [NAN, 0]])
    values = np.array([[0.9, 0.5], [0.3, 0.8], [0.2, 0.9], [0.6, 0.1]])
    table = evaluate_findings(targets, values, (0.5, 0.85), names=("a", "b"))
    a, b = table["findings"]["a"], table["findings"]["b"]
    assert a["confusion_matrix"] == {"tn": 1, "fp": 0, "fn": 1, "tp": 1}
    assert b["confusion_matrix"] == {"tn": 1, "fp": 1, "fn": 1, "tp": 0}
    assert (a["auc"]["value"], b["auc"]["value"]) == (0.5, 0.5)
    assert table["sensitivity"]["value"] == pytest.approx((0.5 + 0) / 2)
    assert table["specificity"]["value"] == pytest.approx((1 + 0.5) / 2)


def test_a_finding_without_positives_is_undefined_and_not_in_the_mean():
    targets = np.array([[1, 0, NAN], [0, 0, NAN], [1, NAN, NAN], [0, 0, NAN]])
    values = np.array([[0.9, 0.2, 0.1], [0.3, 0.7, 0.1], [0.8, 0.2, 0.1], [0.6, 0.1, 0.1]])
    table = evaluate_findings(targets, values, (0.7, 0.5, 0.5), names=("a", "b", "c"))
    rare, absent = table["findings"]["b"], table["findings"]["c"]
    assert rare["auc"] == {
        "value": None,
        "low": None,
        "high": None,
        "undefined": "no image is labelled b present",
    }
    assert rare["specificity"]["value"] == pytest.approx(2 / 3)
    assert (absent["images"], absent["accuracy"]["value"]) == (0, None)
    assert absent["accuracy"]["undefined"] == "no image has a known state of c"
    assert table["auc"]["value"] == table["findings"]["a"]["auc"]["value"] == 1
    assert table["specificity"]["value"] == pytest.approx((1 + 2 / 3) / 2)
    lines = format_metrics(table).splitlines()
    assert [line.split()[0] for line in lines] == ["finding", "a", "b", "c", "mean"]
    assert "undefined: no image is labelled b present" in lines[2]


def test_no_finding_is_defined():
    table = evaluate_findings(np.zeros((3, 1)), np.full((3, 1), 0.5), (0.5,), names=("a",))
    assert table["auc"] == {
        "value": None,
        "low": None,
        "high": None,
        "undefined": "undefined for all findings",
    }


def test_each_finding_has_its_temperature_and_threshold():
    logits = np.array([[2.0, 2.0], [-4.0, 0.0]])
    found = probabilities(logits, (1.0, 2.0), several_findings=True)
    np.testing.assert_allclose(found, 1 / (1 + np.exp([[-2, -1], [4, 0]])))
    np.testing.assert_array_equal(decisions(found, (0.9, 0.5)), [[0, 1], [0, 1]])
