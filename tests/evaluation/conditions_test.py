"""Conditions of the stress test, checked by hand on small images."""

import numpy as np
import pytest

from cxr_tfds.evaluation.conditions import CONDITIONS, MODERATE, STRENGTHS
from cxr_tfds.phantom.drawing import draw

BY_NAME = {condition.name: condition for condition in CONDITIONS}


def radiographs(count=4, side=40):
    """uint8 (count, side, side, 1)."""
    whole = [draw("none", np.random.default_rng(seed)) for seed in range(count)]
    return np.stack(
        [
            image[:: image.shape[0] // side, :: image.shape[1] // side][:side, :side]
            for image in whole
        ]
    )[..., None]


IMAGES = radiographs()
INDICES = np.arange(4)


def changed(name, strength=MODERATE, images=IMAGES, indices=INDICES):
    return BY_NAME[name].apply(images, indices, strength)


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_changes_grow_with_strength_and_keep_type_and_input(
    condition,
):
    before = IMAGES.copy()
    distances = []
    for strength in STRENGTHS:
        result = condition.apply(IMAGES, INDICES, strength)
        assert (result.dtype, result.shape) == (np.uint8, IMAGES.shape)
        np.testing.assert_array_equal(result, condition.apply(IMAGES, INDICES, strength))
        distances.append(np.abs(result.astype(int) - IMAGES).mean())
    np.testing.assert_array_equal(IMAGES, before)
    assert 0 < distances[0] < distances[1] < distances[2]


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_change_does_not_depend_on_the_batch(condition):
    """Up to one grey value: sums in another order may round differently."""
    whole = condition.apply(IMAGES, INDICES, MODERATE).astype(int)
    parts = [condition.apply(IMAGES[i : i + 1], INDICES[i : i + 1], MODERATE) for i in INDICES]
    assert np.abs(whole - np.concatenate(parts)).max() <= 1


@pytest.mark.parametrize(
    ("name", "strength", "text"),
    [
        ("JPEG quality", "mild", "quality 70"),
        ("blur", "moderate", "1 px SD"),
        ("noise", "severe", "8% of full scale SD"),
        ("rotation", "mild", "3 degrees"),
    ],
)
def test_amounts_have_units(name, strength, text):
    assert BY_NAME[name].format_amount(strength) == text


def test_noise_has_the_stated_deviation_and_differs_by_image():
    grey = np.full((2, 100, 100, 1), 128, np.uint8)
    noise = changed("noise", images=grey, indices=np.array([5, 6])).astype(float) - 128
    assert noise.std(axis=(1, 2, 3)) == pytest.approx([0.04 * 255] * 2, rel=0.05)
    assert noise.mean() == pytest.approx(0, abs=0.3)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05


def test_exposure_and_contrast_by_hand():
    flat = np.full((1, 8, 8, 1), 64, np.uint8)
    assert changed("darker exposure", "severe", flat, INDICES[:1])[0, 0, 0, 0] == round(
        255 * (64 / 255) ** 2
    )
    assert changed("brighter exposure", "severe", flat, INDICES[:1])[0, 0, 0, 0] == round(
        255 * (64 / 255) ** 0.5
    )
    halves = np.repeat(np.array([100, 160], np.uint8), 32).reshape(1, 8, 8, 1)
    assert set(changed("lower contrast", "severe", halves, INDICES[:1]).ravel()) == {
        115,
        145,
    }  # 130 -+ 15
    assert set(changed("higher contrast", "severe", halves, INDICES[:1]).ravel()) == {82, 178}


def test_shift_alternates_between_all_sides():
    point = np.zeros((4, 25, 25, 1), np.uint8)
    point[:, 12, 12] = 200
    found = changed("shift", "severe", point)  # 12 % of 25 pixels
    places = [np.unravel_index(image.argmax(), (25, 25)) for image in found]
    assert places == [(12, 15), (12, 9), (15, 12), (9, 12)]  # right, left, down, up


def test_rotation_alternates_and_keeps_the_middle():
    line = np.zeros((2, 41, 41, 1), np.uint8)
    line[:, 20] = 200
    left, right = changed("rotation", "severe", line, INDICES[:2])[..., 0]
    assert left[20, 20] == right[20, 20] == 200
    np.testing.assert_allclose(left.astype(int), right[::-1].astype(int), atol=1)
    ends = left[:, 38].argmax(), left[:, 2].argmax()
    assert abs(ends[0] - ends[1]) == pytest.approx(36 * np.tan(np.radians(15)), abs=1.5)


def test_crop_enlarges_the_middle():
    square = np.zeros((1, 40, 40, 1), np.uint8)
    square[:, 12:28, 12:28] = 200
    assert (
        changed("crop", "severe", square, INDICES[:1])[0, 20, :, 0] > 100
    ).sum() == 20  # 16 / 0.8
