"""ROC and precision-recall curves and their bands against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sklearn

from cxr_tfds.metrics.curves import precision_recall_curve, roc_curve
from cxr_tfds.metrics.resampling import bootstrap_weights


def draw(images=200, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, images)
    return labels, np.round(generator.normal(labels, 1.0), 1), [""] * images


def sklearn_roc(labels, scores):
    x, y, _ = sklearn.roc_curve(labels, scores, drop_intermediate=False)
    return x, y


def sklearn_precision_recall(labels, scores):
    """Starts at the precision of the strictest threshold, where scikit-learn starts at 1."""
    precision, recall, _ = sklearn.precision_recall_curve(labels, scores)
    return recall[::-1], np.append(precision[-2], precision[-2::-1])


CURVES = [(roc_curve, sklearn_roc), (precision_recall_curve, sklearn_precision_recall)]


@pytest.mark.parametrize(("curve", "expected"), CURVES)
def test_agrees_with_scikit_learn(curve, expected):
    labels, scores, patients = draw()
    found = curve(labels, scores, patients)
    np.testing.assert_allclose((found.x, found.y), expected(labels, scores))


@pytest.mark.parametrize(("curve", "expected"), CURVES)
def test_band_holds_95_percent_of_the_resampled_curves(curve, expected):
    labels, scores, _ = draw(60)
    patients = [f"p{n // 2}" for n in range(60)]
    found = curve(labels, scores, patients)
    (weights,) = bootstrap_weights(np.arange(60) // 2, 300, seed=0)
    resampled = []
    for times in weights.astype(int):
        x, y = expected(np.repeat(labels, times), np.repeat(scores, times))
        resampled.append(np.interp(found.grid, x, y))
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    # Where the curve is vertical, interpolation between equal x depends on their number.
    inside = slice(1, -1)
    np.testing.assert_allclose(found.low[inside], low[inside])
    np.testing.assert_allclose(found.high[inside], high[inside])


@pytest.mark.parametrize("curve", [roc_curve, precision_recall_curve])
def test_resampling_in_parts_gives_the_same_band(curve, monkeypatch):
    labels, scores, patients = draw(50)
    complete = curve(labels, scores, patients)
    monkeypatch.setattr("cxr_tfds.metrics.resampling._MAX_WEIGHTS", 7 * 50)
    parts = curve(labels, scores, patients)
    np.testing.assert_array_equal((parts.low, parts.high), (complete.low, complete.high))


def test_images_of_one_patient_widen_the_band():
    labels, scores, _ = draw(60)
    repeated = [np.repeat(values, 10) for values in (labels, scores)]
    by_image = roc_curve(*repeated, [""] * 600)
    by_patient = roc_curve(*repeated, [f"p{n // 10}" for n in range(600)])
    assert (by_patient.high - by_patient.low).mean() > 2 * (by_image.high - by_image.low).mean()


@pytest.mark.parametrize("curve", [roc_curve, precision_recall_curve])
def test_resamples_of_one_class_are_left_out(curve):
    found = curve(np.array([0, 1]), np.array([0.0, 1.0]), ["", ""])
    np.testing.assert_array_equal(found.low[1:-1], 1)
    np.testing.assert_array_equal(found.high[1:-1], 1)


@pytest.mark.parametrize("curve", [roc_curve, precision_recall_curve])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_curve(curve, label):
    assert curve(np.full(4, label), np.arange(4.0), [""] * 4) is None
