"""Curves and their bands against scikit-learn and by hand."""

import numpy as np
import pytest

from cxr_tfds.metrics.curves import precision_recall, roc, wilson


def draw(images=200, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, images)
    return labels, np.round(generator.normal(labels, 1.0), 1), [""] * images


def test_roc_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    labels, scores, patients = draw()
    curve = roc(labels, scores, patients)
    x, y, _ = sklearn.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose((curve.x, curve.y), (x, y))
    assert (curve.low <= curve.high).all()
    inside = np.interp(curve.grid, curve.x, curve.y)
    assert ((curve.low <= inside + 0.02) & (inside <= curve.high + 0.02)).mean() > 0.97
    assert 0.02 < (curve.high - curve.low).mean() < 0.25


def test_precision_and_recall_agree_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    labels, scores, patients = draw(seed=1)
    curve = precision_recall(labels, scores, patients)
    precision, recall, _ = sklearn.precision_recall_curve(labels, scores)
    np.testing.assert_allclose(curve.x[1:], recall[::-1][1:])
    np.testing.assert_allclose(curve.y[1:], precision[::-1][1:])
    assert curve.y[0] == curve.y[1]  # nothing is called there: the precision of the first call
    assert ((curve.low >= 0) & (curve.high <= 1)).all()


def test_images_of_one_patient_make_the_band_wider():
    labels, scores, _ = draw(60)
    ten = [np.repeat(values, 10) for values in (labels, scores)]
    by_image = roc(*ten, [""] * 600)
    by_patient = roc(*ten, [f"p{n // 10}" for n in range(600)])
    assert (by_patient.high - by_patient.low).mean() > 2 * (by_image.high - by_image.low).mean()


@pytest.mark.parametrize("curve", [roc, precision_recall])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_curve(curve, label):
    assert curve(np.full(4, label), np.arange(4.0), [""] * 4) is None


def test_wilson_by_hand():
    # 0 of 10: from 0 to 1.96^2 / (10 + 1.96^2).
    low, high = wilson(np.array([0, 10, 5]), np.array([10, 10, 10]))
    assert (low[0], high[0]) == (0, pytest.approx(3.8415 / 13.8415, abs=1e-4))
    assert (low[1], high[1]) == (pytest.approx(10 / 13.8415, abs=1e-4), pytest.approx(1))
    assert low[2] + high[2] == pytest.approx(1)
