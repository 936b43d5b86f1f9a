"""Augmentation: warps worked by hand, the promised ranges, randomness from the seed alone."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from cxr_tfds.augment import Augment, draw_changes, expose, warp
from cxr_tfds.errors import InputError
from cxr_tfds.presets import PRESETS, AugmentSettings

DEFAULT = PRESETS["default"]
IDENTITY = [1, 0, 0, 0, 1, 0]
SQUARE = np.arange(16, dtype=np.float32).reshape(4, 4)
SHAPE = (1000, 40, 50, 1)


def warped(image, matrix):
    return np.asarray(warp(image[np.newaxis, ..., np.newaxis], np.array([matrix], np.float32)))[0, ..., 0]


def drawn(settings, seed=0, shape=SHAPE):
    changes = draw_changes(settings, shape, keras.random.SeedGenerator(seed))
    return {name: None if value is None else np.asarray(value) for name, value in changes.items()}


def radiographs(seed=0, shape=(8, 48, 64, 1), dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (IDENTITY, SQUARE),
        # The output looks one pixel to the right: the image moves left, its right edge is repeated.
        ([1, 0, 1, 0, 1, 0], [[1, 2, 3, 3], [5, 6, 7, 7], [9, 10, 11, 11], [13, 14, 15, 15]]),
        ([1, 0, 0, 0, 1, -1], [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),
        # Half a pixel is the mean of two.
        ([1, 0, 0.5, 0, 1, 0], SQUARE + np.array([0.5, 0.5, 0.5, 0])),
        ([-1, 0, 0, 0, 1, 0], SQUARE[:, ::-1]),
        ([1, 0, 0, 0, -1, 0], SQUARE[::-1]),
        ([-1, 0, 0, 0, -1, 0], SQUARE[::-1, ::-1]),
        # x' = -y, y' = x: the first row of the output reads the last column of the input downwards.
        ([0, -1, 0, 1, 0, 0], [[3, 7, 11, 15], [2, 6, 10, 14], [1, 5, 9, 13], [0, 4, 8, 12]]),
        # Twice as large: output pixels -1.5, -0.5, 0.5, 1.5 read -0.75, -0.25, 0.25, 0.75.
        (
            [0.5, 0, 0, 0, 1, 0],
            [[0.75 + 4 * row, 1.25 + 4 * row, 1.75 + 4 * row, 2.25 + 4 * row] for row in range(4)],
        ),
        # Wholly outside: the edge.
        ([1, 0, 9, 0, 1, 0], np.repeat(SQUARE[:, 3:], 4, axis=1)),
    ],
)
def test_warps_worked_by_hand(matrix, expected):
    np.testing.assert_array_equal(warped(SQUARE, matrix), np.array(expected, np.float32))


def test_mirroring_twice_is_the_identity():
    mirror = np.array([[-1, 0, 0, 0, 1, 0]] * 8, np.float32)
    images = radiographs(dtype=np.float32)
    np.testing.assert_array_equal(np.asarray(warp(warp(images, mirror), mirror)), images)


@pytest.mark.parametrize("seed", range(3))
def test_warp_agrees_with_scipy(seed):
    shape = (6, 37, 52, 3)
    images = radiographs(seed, shape, np.float32)
    matrices = drawn(DEFAULT, seed, shape)["matrix"]
    ours = np.asarray(warp(images, matrices))
    centre = (np.array(shape[1:3]) - 1) / 2
    for image, mine, (a, b, c, d, e, f) in zip(images, ours, matrices.astype(np.float64), strict=True):
        linear = np.array([[e, d], [b, a]])  # scipy counts rows first
        offset = np.array([f, c]) + centre - linear @ centre
        for channel in range(3):
            theirs = ndimage.affine_transform(image[..., channel], linear, offset, order=1, mode="nearest")
            np.testing.assert_allclose(mine[..., channel], theirs, atol=0.02)  # of 255: float32 coordinates


def test_exposure_worked_by_hand():
    image = np.array([51, 51, 153, 153], np.float32).reshape(1, 2, 2, 1)  # 0.2 and 0.6, mean 0.4
    one, none = np.ones((1, 1, 1, 1), np.float32), np.zeros((1, 1, 1, 1), np.float32)
    same = {"gain": one, "offset": none, "power": one, "noise": None}
    rows = [
        ({}, (0.2, 0.6)),
        ({"gain": 2 * one}, (0.0, 0.8)),
        ({"gain": none}, (0.4, 0.4)),
        ({"offset": one / 10}, (0.3, 0.7)),
        ({"offset": one}, (1.0, 1.0)),  # clipped
        ({"offset": -one / 2}, (0.0, 0.1)),
        ({"power": 2 * one}, (0.04, 0.36)),
        ({"noise": np.full((1, 2, 2, 1), 0.5, np.float32)}, (0.7, 1.0)),
    ]
    for change, expected in rows:
        found = np.asarray(expose(image, same | change)).ravel() / 255
        np.testing.assert_allclose(found, np.repeat(expected, 2), atol=2e-5, err_msg=f"{change}")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_identity_at_zero_strength_and_when_not_training(dtype):
    images = radiographs(dtype=dtype)
    for layer, training in ((Augment(PRESETS["none"], seed=0), True), (Augment(DEFAULT, seed=0), False)):
        result = layer(images, training=training)
        assert result.dtype == "float32"
        np.testing.assert_array_equal(np.asarray(result), images)


@pytest.mark.parametrize(
    ("setting", "strength", "of_changes"),
    [
        ("rotation_deg", 10, lambda c: np.degrees(np.arctan2(c["matrix"][:, 3], c["matrix"][:, 0]))),
        ("shear_deg", 5, lambda c: np.degrees(np.arctan(c["matrix"][:, 1]))),
        # From input to output, hence the inverse.
        ("zoom", 0.12, lambda c: 1 / c["matrix"][:, 0] - 1),
        ("shift", 0.06, lambda c: c["matrix"][:, 2] / 50),  # part of the width
        ("shift", 0.06, lambda c: c["matrix"][:, 5] / 40),  # part of the height
        ("brightness", 0.12, lambda c: c["offset"]),
        ("contrast", 0.25, lambda c: c["gain"] - 1),
        ("gamma", 0.3, lambda c: np.log(c["power"])),
        ("noise", 0.03, lambda c: c["noise"]),
    ],
)
def test_drawn_values_span_the_promised_interval_and_no_more(setting, strength, of_changes):
    values = of_changes(drawn(AugmentSettings(**{setting: strength}))) / strength
    assert values.min() >= -1 - 1e-4
    assert values.max() <= 1 + 1e-4
    assert values.min() < -0.98
    assert values.max() > 0.98
    assert abs(values.mean()) < 0.06  # 1,000 draws


@pytest.mark.parametrize("probability", [0, 0.3, 1])
def test_part_of_the_images_that_is_mirrored(probability):
    across = drawn(AugmentSettings(flip=probability))["matrix"][:, 0]
    assert set(np.abs(across)) == {1}
    assert (across < 0).mean() == pytest.approx(probability, abs=0.05 if 0 < probability < 1 else 0)


def test_each_setting_changes_its_own_values_only():
    still = drawn(AugmentSettings())
    np.testing.assert_array_equal(still["matrix"], np.array([IDENTITY] * 1000, np.float32))
    for name, value in (("gain", 1), ("offset", 0), ("power", 1)):
        assert set(still[name].ravel()) == {value}
    assert still["noise"] is None
    exposed = drawn(AugmentSettings(brightness=0.1, contrast=0.1, gamma=0.1, noise=0.1))
    np.testing.assert_array_equal(exposed["matrix"], still["matrix"])


def test_each_image_has_its_own_draw():
    for name, values in drawn(DEFAULT, shape=(64, 8, 8, 1)).items():
        assert len(np.unique(values.reshape(64, -1), axis=0)) == 64, name
    same = np.repeat(radiographs(shape=(1, 48, 64, 1)), 16, axis=0)
    result = np.asarray(Augment(DEFAULT, seed=0)(same, training=True))
    assert len(np.unique(result.reshape(16, -1), axis=0)) == 16


def test_the_seed_decides():
    images = radiographs()

    def two_batches(seed):
        layer = Augment(DEFAULT, seed=seed)
        return [np.asarray(layer(images, training=True)) for _ in range(2)]

    first, second = two_batches(3)
    np.testing.assert_array_equal(two_batches(3), [first, second])
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, two_batches(4)[0])


def test_the_same_state_of_the_seed_draws_the_same():
    images = radiographs()
    layer = Augment(DEFAULT, seed=0)
    results = []
    for epoch in (5, 6, 5):
        layer.seeds.state.assign([0, epoch])
        results.append(np.asarray(layer(images, training=True)))
    np.testing.assert_array_equal(results[0], results[2])
    assert not np.array_equal(results[0], results[1])


@pytest.mark.parametrize(("dtype", "grey_values"), [("float32", 0), ("float16", 1), ("bfloat16", 4)])
def test_output_in_range_and_close_whatever_the_dtype(dtype, grey_values):
    smooth = ndimage.gaussian_filter(radiographs(shape=(8, 64, 64, 1), dtype=np.float64), (0, 3, 3, 0))
    images = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    policy = dtype if dtype == "float32" else f"mixed_{dtype}"
    strong = dataclasses.replace(DEFAULT, brightness=0.5, contrast=1)
    layer = Augment(strong, seed=0, dtype=policy)
    result = layer(images, training=True)
    assert keras.backend.standardize_dtype(result.dtype) == dtype
    assert layer.compute_output_shape(images.shape) == result.shape == images.shape
    values = np.asarray(tf.cast(result, tf.float32))
    assert 0 <= values.min() < 1
    assert 254 < values.max() <= 255
    exact = np.asarray(Augment(strong, seed=0)(images, training=True))
    assert np.abs(values - exact).max() <= grey_values


def test_eager_compiled_and_jitted_agree():
    images = radiographs(dtype=np.float32)
    changes = draw_changes(DEFAULT, images.shape, keras.random.SeedGenerator(0))

    def both(values):
        return expose(warp(values, changes["matrix"]), changes)

    eager = np.asarray(both(images))
    for function in (tf.function(both), tf.function(both, jit_compile=True)):
        np.testing.assert_allclose(np.asarray(function(images)), eager, atol=0.255)  # 1e-3 of full scale
    layer = Augment(DEFAULT, seed=0)
    np.testing.assert_allclose(np.asarray(layer(images, training=True)), eager, atol=0.255)


def test_runs_in_a_tf_data_map_on_batches_of_unequal_size():
    images = radiographs(shape=(5, 48, 64, 1))
    labels = np.arange(5)
    layer = Augment(DEFAULT, seed=0)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(3)
    batches = batches.map(lambda image, label: (layer(image, training=True), label))
    shapes, seen = zip(*((image.shape, label) for image, label in batches.as_numpy_iterator()), strict=True)
    assert shapes == ((3, 48, 64, 1), (2, 48, 64, 1))
    np.testing.assert_array_equal(np.concatenate(seen), labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_inputs_stay_as_they_are(dtype):
    images = radiographs(dtype=dtype)
    before = images.copy()
    tensor = tf.constant(images)
    layer = Augment(DEFAULT, seed=0)
    layer(images, training=True)
    layer(tensor, training=True)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(tensor.numpy(), before)


@pytest.mark.parametrize(
    ("setting", "value", "limit"),
    [
        ("rotation_deg", 181, 180),
        ("rotation_deg", -1, 180),
        ("shear_deg", 61, 60),
        ("zoom", 0.95, 0.9),  # 1 - zoom must stay above 0
        ("shift", 1.1, 1),
        ("flip", 2, 1),
        ("brightness", float("nan"), 1),
        ("contrast", -0.1, 1),
        ("gamma", 4, 3),
        ("noise", float("inf"), 1),
    ],
)
def test_settings_out_of_range(setting, value, limit):
    with pytest.raises(InputError, match=f"^{setting}={value}; expected 0 to {limit}\\.$"):
        AugmentSettings(**{setting: value})
    AugmentSettings(**{setting: limit})
