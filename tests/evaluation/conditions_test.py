"""Conditions of the stress test, by hand on small images."""

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
NUMBERS = np.arange(4)


def changed(name, strength=MODERATE, images=IMAGES, numbers=NUMBERS):
    return BY_NAME[name].apply(images, numbers, strength)


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_each_gives_uint8_of_the_same_shape_changes_more_with_strength_and_leaves_its_input(
    condition,
):
    before = IMAGES.copy()
    distances = []
    for strength in STRENGTHS:
        result = condition.apply(IMAGES, NUMBERS, strength)
        assert (result.dtype, result.shape) == (np.uint8, IMAGES.shape)
        np.testing.assert_array_equal(result, condition.apply(IMAGES, NUMBERS, strength))
        distances.append(np.abs(result.astype(int) - IMAGES).mean())
    np.testing.assert_array_equal(IMAGES, before)
    assert 0 < distances[0] < distances[1] < distances[2]
    assert condition.written("mild") != condition.written("severe")


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_an_image_is_changed_alike_in_every_batch(condition):
    """Up to the last grey value, which sums in another order may round differently."""
    whole = condition.apply(IMAGES, NUMBERS, MODERATE).astype(int)
    parts = [condition.apply(IMAGES[i : i + 1], NUMBERS[i : i + 1], MODERATE) for i in NUMBERS]
    assert np.abs(whole - np.concatenate(parts)).max() <= 1


def test_noise_has_the_stated_width_and_its_own_draw_for_each_image():
    grey = np.full((2, 100, 100, 1), 128, np.uint8)
    noise = changed("noise", images=grey, numbers=np.array([5, 6])).astype(float) - 128
    assert noise.std(axis=(1, 2, 3)) == pytest.approx([0.04 * 255] * 2, rel=0.05)
    assert noise.mean() == pytest.approx(0, abs=0.3)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05


def test_exposure_and_contrast_by_hand():
    flat = np.full((1, 8, 8, 1), 64, np.uint8)
    assert changed("darker exposure", "severe", flat, NUMBERS[:1])[0, 0, 0, 0] == round(
        255 * (64 / 255) ** 2
    )
    assert changed("brighter exposure", "severe", flat, NUMBERS[:1])[0, 0, 0, 0] == round(
        255 * (64 / 255) ** 0.5
    )
    halves = np.repeat(np.array([100, 160], np.uint8), 32).reshape(1, 8, 8, 1)
    assert set(changed("lower contrast", "severe", halves, NUMBERS[:1]).ravel()) == {
        115,
        145,
    }  # 130 -+ 15
    assert set(changed("higher contrast", "severe", halves, NUMBERS[:1]).ravel()) == {82, 178}


def test_shift_goes_to_all_sides_in_turn():
    point = np.zeros((4, 25, 25, 1), np.uint8)
    point[:, 12, 12] = 200
    found = changed("shift", "severe", point)  # 12 % of 25 pixels
    places = [np.unravel_index(image.argmax(), (25, 25)) for image in found]
    assert places == [(12, 15), (12, 9), (15, 12), (9, 12)]  # right, left, down, up


def test_rotation_goes_both_ways_and_keeps_the_middle():
    line = np.zeros((2, 41, 41, 1), np.uint8)
    line[:, 20] = 200
    left, right = changed("rotation", "severe", line, NUMBERS[:2])[..., 0]
    assert left[20, 20] == right[20, 20] == 200
    np.testing.assert_allclose(left.astype(int), right[::-1].astype(int), atol=1)
    ends = left[:, 38].argmax(), left[:, 2].argmax()
    assert abs(ends[0] - ends[1]) == pytest.approx(36 * np.tan(np.radians(15)), abs=1.5)


def test_crop_enlarges_the_middle():
    square = np.zeros((1, 40, 40, 1), np.uint8)
    square[:, 12:28, 12:28] = 200
    assert (
        changed("crop", "severe", square, NUMBERS[:1])[0, 20, :, 0] > 100
    ).sum() == 20  # 16 / 0.8
