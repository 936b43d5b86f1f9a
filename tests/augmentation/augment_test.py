"""Augmentation: warps worked by hand, promised ranges, draws that depend on the seed only."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from cxr_tfds.augmentation.augment import Augment, draw_exposure, draw_matrix, expose, mix, warp
from cxr_tfds.augmentation.degrade import blur, compress
from cxr_tfds.augmentation.presets import FILLS, PRESETS, AugmentSettings, augmentation
from cxr_tfds.errors import InputError

pytestmark = pytest.mark.slow

DEFAULT = PRESETS["default"]
IDENTITY = [1, 0, 0, 0, 1, 0]
SQUARE = np.arange(16, dtype=np.float32).reshape(4, 4)
SHAPE = (1000, 40, 50, 1)


def warped(image, matrix, fill="nearest"):
    return np.asarray(
        warp(image[np.newaxis, ..., np.newaxis], np.array([matrix], np.float32), fill)
    )[0, ..., 0]


def drawn(settings, seed=0, shape=SHAPE):
    """Returns the draws for N images: matrix (N, 6); gain, offset, power (N,)."""
    seeds = keras.random.SeedGenerator(seed)
    matrix = np.asarray(draw_matrix(settings, shape, seeds))
    exposure = (np.asarray(values).ravel() for values in draw_exposure(settings, shape[0], seeds))
    return dict(zip(("matrix", "gain", "offset", "power"), (matrix, *exposure), strict=True))


def radiographs(seed=0, shape=(8, 48, 64, 1), dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (IDENTITY, SQUARE),
        # The output reads one pixel to the right: the image moves left, its right edge is repeated.
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
        # Completely outside: the edge.
        ([1, 0, 9, 0, 1, 0], np.repeat(SQUARE[:, 3:], 4, axis=1)),
    ],
)
def test_warps_worked_by_hand(matrix, expected):
    np.testing.assert_array_equal(warped(SQUARE, matrix), np.array(expected, np.float32))


def test_mirroring_twice_is_the_identity():
    mirror = np.array([[-1, 0, 0, 0, 1, 0]] * 8, np.float32)
    images = radiographs(dtype=np.float32)
    np.testing.assert_array_equal(np.asarray(warp(warp(images, mirror), mirror)), images)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("seed", range(3))
def test_warp_agrees_with_scipy(seed, fill):
    shape = (6, 37, 52, 3)
    images = radiographs(seed, shape, np.float32)
    far = AugmentSettings(rotation_deg=40, shear_deg=20, zoom=0.5, shift=0.5, flip=0.5)
    matrices = drawn(far, seed, shape)["matrix"]
    ours = np.asarray(warp(images, matrices, fill))
    centre = (np.array(shape[1:3]) - 1) / 2
    for image, mine, (a, b, c, d, e, f) in zip(
        images, ours, matrices.astype(np.float64), strict=True
    ):
        linear = np.array([[e, d], [b, a]])  # scipy counts rows first
        offset = np.array([f, c]) + centre - linear @ centre
        for channel in range(3):
            theirs = ndimage.affine_transform(
                image[..., channel], linear, offset, order=1, mode=fill
            )
            np.testing.assert_allclose(
                mine[..., channel], theirs, atol=0.05
            )  # of 255: float32 coordinates


@pytest.mark.filterwarnings(
    "ignore:Please import `affine_transform`:DeprecationWarning"
)  # Keras 3.15 does not
@pytest.mark.parametrize("seed", range(3))
def test_warp_agrees_with_image_data_generator(seed):
    from keras.src.legacy.preprocessing.image import apply_affine_transform

    settings = AugmentSettings(rotation_deg=15, shear_deg=12, zoom=0.3, shift=0.1)
    rng = np.random.default_rng(seed)
    theta, shear = rng.uniform(-15, 15), rng.uniform(-12, 12)
    zx, zy, tx, ty = *rng.uniform(0.7, 1.3, 2), *rng.uniform(-4, 4, 2)
    draws = iter([theta, shear, zx, zy, tx, ty])

    def uniform(shape, low=0.0, high=1.0, **_):
        """Returns the draws of `draw_matrix`: rotation, shear, flip, across, down, x, y."""
        if (low, high) == (0.0, 1.0):  # of the mirror
            return np.ones(shape, np.float32)
        value = next(draws)
        scaled = {0.3: value - 1, 0.1: value / 32}.get(high, value)
        return np.full(shape, scaled, np.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.random, "uniform", uniform)
        matrix = draw_matrix(settings, (1, 32, 32, 1), keras.random.SeedGenerator(0))
    image = radiographs(seed, (1, 32, 32, 1), np.float32)
    theirs = apply_affine_transform(
        image[0].copy(),
        theta,
        tx,
        ty,
        shear,
        zx,
        zy,
        row_axis=0,
        col_axis=1,
        channel_axis=2,
        fill_mode="nearest",
    )
    np.testing.assert_allclose(np.asarray(warp(image, matrix))[0], theirs, atol=0.05)


@pytest.mark.parametrize(
    ("fill", "expected"),
    [("nearest", [3, 3, 3, 3]), ("constant", [3, 0, 0, 0]), ("reflect", [3, 3, 2, 1])],
)
def test_fills_worked_by_hand(fill, expected):
    # Three pixels to the right: the last column, and what lies outside.
    np.testing.assert_array_equal(
        warped(SQUARE, [1, 0, 3, 0, 1, 0], fill)[0], np.array(expected, np.float32)
    )


def test_exposure_worked_by_hand():
    image = np.array([51, 51, 153, 153], np.float32).reshape(1, 2, 2, 1)  # 0.2 and 0.6, mean 0.4
    rows = [
        ((1, 0, 1), (0.2, 0.6)),
        ((2, 0, 1), (0.0, 0.8)),
        ((0, 0, 1), (0.4, 0.4)),
        ((1, 0.1, 1), (0.3, 0.7)),
        ((1, 1, 1), (1.0, 1.0)),  # clipped
        ((1, -0.5, 1), (0.0, 0.1)),
        ((1, 0, 2), (0.04, 0.36)),
    ]
    for values, expected in rows:
        found = np.asarray(
            expose(image, *(np.full((1, 1, 1, 1), value, np.float32) for value in values))
        )
        np.testing.assert_allclose(
            found.ravel() / 255, np.repeat(expected, 2), atol=2e-5, err_msg=f"{values}"
        )


def test_mixing_worked_by_hand():
    images = np.array([0, 100, 200], np.float32).reshape(3, 1, 1, 1)
    mixed = mix(images, np.array([1, 0.5, 0.25], np.float32))
    np.testing.assert_array_equal(
        np.asarray(mixed).ravel(), [0, 100, 50]
    )  # the last with the first


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_identity_at_zero_strength_and_when_not_training(dtype):
    images = radiographs(dtype=dtype)
    for layer, training in (
        (Augment(PRESETS["none"], seed=0), True),
        (Augment(DEFAULT, seed=0), False),
    ):
        result = layer(images, training=training)
        assert result.dtype == "float32"
        np.testing.assert_array_equal(np.asarray(result), images)


@pytest.mark.parametrize(
    ("setting", "strength", "of_changes"),
    [
        (
            "rotation_deg",
            10,
            lambda c: np.degrees(np.arctan2(c["matrix"][:, 3], c["matrix"][:, 0])),
        ),
        ("shear_deg", 5, lambda c: np.degrees(np.arctan2(-c["matrix"][:, 1], c["matrix"][:, 4]))),
        ("zoom", 0.12, lambda c: c["matrix"][:, 0] - 1),
        ("zoom", 0.12, lambda c: c["matrix"][:, 4] - 1),
        ("shift", 0.06, lambda c: c["matrix"][:, 2] / 50),  # part of the width
        ("shift", 0.06, lambda c: c["matrix"][:, 5] / 40),  # part of the height
        ("brightness", 0.12, lambda c: c["offset"]),
        ("contrast", 0.25, lambda c: c["gain"] - 1),
        ("gamma", 0.3, lambda c: np.log(c["power"])),
    ],
)
def test_draws_span_the_promised_interval(setting, strength, of_changes):
    values = of_changes(drawn(AugmentSettings(**{setting: strength}))) / strength
    assert values.min() >= -1 - 1e-4
    assert values.max() <= 1 + 1e-4
    assert values.min() < -0.98
    assert values.max() > 0.98
    assert abs(values.mean()) < 0.06  # 1,000 draws


@pytest.mark.parametrize("probability", [0, 0.3, 1])
def test_flip_is_the_probability_of_mirroring(probability):
    across = drawn(AugmentSettings(flip=probability))["matrix"][:, 0]
    assert set(np.abs(across)) == {1}
    assert (across < 0).mean() == pytest.approx(probability, abs=0.05 if 0 < probability < 1 else 0)


def test_settings_do_not_affect_each_other():
    still = drawn(AugmentSettings())
    np.testing.assert_array_equal(still["matrix"], np.array([IDENTITY] * 1000, np.float32))
    for name, value in (("gain", 1), ("offset", 0), ("power", 1)):
        assert set(still[name].ravel()) == {value}
    exposed = drawn(AugmentSettings(brightness=0.1, contrast=0.1, gamma=0.1))
    np.testing.assert_array_equal(exposed["matrix"], still["matrix"])


def test_each_image_has_its_own_draws():
    for name, values in drawn(DEFAULT, shape=(64, 8, 8, 1)).items():
        assert len(np.unique(values.reshape(64, -1), axis=0)) == 64, name
    same = np.repeat(radiographs(shape=(1, 48, 64, 1)), 16, axis=0)
    result = np.asarray(Augment(DEFAULT, seed=0)(same, training=True))
    assert len(np.unique(result.reshape(16, -1), axis=0)) == 16


def test_draws_depend_on_the_seed():
    images = radiographs()

    def two_batches(seed):
        layer = Augment(DEFAULT, seed=seed)
        return [np.asarray(layer(images, training=True)) for _ in range(2)]

    first, second = two_batches(3)
    np.testing.assert_array_equal(two_batches(3), [first, second])
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, two_batches(4)[0])


def test_restored_seed_state_repeats_the_draws():
    images = radiographs()
    layer = Augment(DEFAULT, seed=0)
    results = []
    for epoch in (5, 6, 5):
        layer.seeds.state.assign([0, epoch])
        results.append(np.asarray(layer(images, training=True)))
    np.testing.assert_array_equal(results[0], results[2])
    assert not np.array_equal(results[0], results[1])


@pytest.mark.parametrize(
    ("dtype", "grey_values"), [("float32", 0), ("float16", 0.07), ("bfloat16", 0.51)]
)
def test_output_is_in_range_and_close_for_every_dtype(dtype, grey_values):
    smooth = ndimage.gaussian_filter(
        radiographs(shape=(8, 64, 64, 1), dtype=np.float64), (0, 3, 3, 0)
    )
    images = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    policy = dtype if dtype == "float32" else f"mixed_{dtype}"
    # Without compression, where a coefficient on the border between two steps may round either way.
    strong = dataclasses.replace(DEFAULT, brightness=0.5, contrast=1, jpeg=0)
    layer = Augment(strong, seed=0, dtype=policy)
    result = layer(images, training=True)
    assert keras.backend.standardize_dtype(result.dtype) == dtype
    assert layer.compute_output_shape(images.shape) == result.shape == images.shape
    values = np.asarray(tf.cast(result, tf.float32))
    assert 0 <= values.min() < 1
    assert 254 < values.max() <= 255
    exact = np.asarray(Augment(strong, seed=0)(images, training=True))
    assert np.abs(values - exact).max() <= grey_values


@pytest.mark.parametrize("fill", FILLS)
def test_eager_compiled_and_jitted_agree(fill):
    images = radiographs()
    settings = dataclasses.replace(DEFAULT, fill=fill)
    seeds = keras.random.SeedGenerator(0)
    matrix, exposure = (
        draw_matrix(settings, images.shape, seeds),
        draw_exposure(settings, len(images), seeds),
    )

    def both(values):
        return expose(warp(values, matrix, fill), *exposure)

    eager = np.asarray(both(images))
    for function in (tf.function(both), tf.function(both, jit_compile=True)):
        np.testing.assert_allclose(
            np.asarray(function(images)), eager, atol=0.255
        )  # 1e-3 of full scale
    only = dataclasses.replace(settings, blur=0, noise=0, jpeg=0)
    np.testing.assert_allclose(
        np.asarray(Augment(only, seed=0)(images, training=True)), eager, atol=0.255
    )


def test_warp_computes_in_float32_for_every_dtype():
    images = radiographs()
    matrix = drawn(DEFAULT, shape=images.shape)["matrix"]
    exact = np.asarray(warp(images, matrix))
    for dtype in ("bfloat16", "float16", "float32"):  # each holds 0 to 255 exactly
        np.testing.assert_array_equal(np.asarray(warp(tf.cast(images, dtype), matrix)), exact)


def test_neutral_exposure_is_the_identity():
    images = radiographs(dtype=np.float32)
    np.testing.assert_allclose(np.asarray(expose(images, 1, 0, 1)), images, atol=1e-3)


@pytest.mark.parametrize(
    ("setting", "strength", "low"), [("blur", 1.5, 0), ("noise", 0.2, 0), ("jpeg", 60, 40)]
)
def test_strengths_span_the_promised_interval(setting, strength, low, monkeypatch):
    layer = Augment(AugmentSettings(**{setting: strength}), seed=0)
    seen = []

    def keep(images, values):
        seen.append(np.asarray(values))
        return images

    monkeypatch.setattr(
        layer, {"blur": "_blur", "noise": "_add_noise", "jpeg": "_compress"}[setting], keep
    )
    for seed in range(4):
        layer.seeds.state.assign([seed, 0])
        layer(np.zeros((1000, 2, 2, 1), np.uint8), training=True)
    part = (np.concatenate(seen) - low) / (100 - low if setting == "jpeg" else strength)
    assert len(part) == 1000
    assert 0 <= part.min() < 0.01
    assert 0.99 < part.max() <= 1
    assert abs(part.mean() - 0.5) < 0.05


def test_saved_layer_is_the_same(tmp_path):
    inputs = keras.Input((24, 32, 1), dtype="uint8")
    keras.Model(inputs, Augment(DEFAULT, seed=7)(inputs)).save(tmp_path / "model.keras")
    layer = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
    assert (layer.settings, layer.seed) == (DEFAULT, 7)


DEGRADATIONS = {"blur": 2, "noise": 0.5, "jpeg": 90}


def changed(layer, images):
    """Returns which images `layer` changes."""
    return (np.asarray(layer(images)) != images).any(axis=(1, 2, 3))


@pytest.mark.parametrize("size", [1, 3, 4, 6])
@pytest.mark.parametrize("setting", DEGRADATIONS)
def test_each_image_is_degraded_with_probability_a_quarter(setting, size):
    """In a batch of one as well, and at every place of a batch."""
    images = radiographs(shape=(size, 8, 8, 1), dtype=np.float32)
    layer = Augment(AugmentSettings(**{setting: DEGRADATIONS[setting]}), seed=0)
    layer._blur, layer._compress = blur, compress  # without a compiler for each size
    compiled = tf.function(layer)
    share = np.zeros(size)
    for seed in range(400):
        layer.seeds.state.assign([seed, 0])
        share += changed(compiled, images) / 400
    assert (np.abs(share - 0.25) < 0.08).all(), share  # 3.7 standard deviations


def test_at_most_one_degradation_is_applied_to_an_image():
    images = radiographs(shape=(64, 8, 8, 1), dtype=np.float32)
    layers = [
        Augment(AugmentSettings(**{name: DEGRADATIONS[name] for name in names}), seed=0)
        for names in (*([name] for name in DEGRADATIONS), DEGRADATIONS)
    ]
    *single, together = (changed(layer, images) for layer in layers)
    np.testing.assert_array_equal(np.sum(single, axis=0), together)
    assert together.sum() == 48


def test_degraded_images_are_at_random_places():
    images = radiographs(shape=(64, 8, 8, 1), dtype=np.float32)
    layer = Augment(AugmentSettings(noise=0.5), seed=0)
    first, second = changed(layer, images), changed(layer, images)
    assert first.sum() == second.sum() == 16
    assert (first & second).sum() < 12


def test_images_keep_their_places():
    """Blurring moves no image to the place of another one."""
    images = np.arange(0, 250, 25, np.float32).reshape(10, 1, 1, 1) * np.ones((1, 8, 8, 1))
    result = np.asarray(Augment(AugmentSettings(blur=2), seed=0)(images))
    np.testing.assert_allclose(result, images, atol=1e-3)


def test_noise_has_the_promised_width():
    grey = np.full((4000, 4, 4, 1), 128, np.float32)
    noise = np.asarray(Augment(AugmentSettings(noise=0.2), seed=0)(grey)) - 128
    widths = np.abs(noise).max(axis=(1, 2, 3)) / 255
    widths = widths[widths > 0]
    assert len(widths) == 1000
    assert 0.19 < widths.max() <= 0.2
    assert widths.min() < 0.005
    assert abs(noise.mean()) < 0.05


def test_trains_by_default_as_keras_layers_do():
    images = radiographs(dtype=np.float32)
    keras_layer, layer = keras.layers.RandomBrightness(0.5, seed=0), Augment("default", seed=0)
    for random in (keras_layer, layer):
        model = keras.Sequential([keras.Input((48, 64, 1)), random])
        for call in (random, model):
            assert not np.array_equal(call(images), images)
            assert not np.array_equal(call(images, training=True), images)
            np.testing.assert_array_equal(call(images, training=False), images)
        np.testing.assert_array_equal(model.predict(images, verbose=0), images)


def test_preset_by_name_and_random_seed():
    images = radiographs()
    assert Augment("strong").settings == PRESETS["strong"]
    assert not np.array_equal(Augment("default")(images), Augment("default")(images))
    with pytest.raises(InputError, match="augment='mild'; expected one of none, classic"):
        Augment("mild")


def test_runs_in_a_tf_data_map_on_batches_of_unequal_size():
    images = radiographs(shape=(5, 48, 64, 1))
    labels = np.arange(5)
    layer = Augment(DEFAULT, seed=0)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(3)
    batches = batches.map(lambda image, label: (layer(image, training=True), label))
    found, seen = zip(*batches.as_numpy_iterator(), strict=True)
    np.testing.assert_array_equal(np.concatenate(seen), labels)
    eager = Augment(DEFAULT, seed=0)
    for batch, given in zip(found, (images[:3], images[3:]), strict=True):
        np.testing.assert_allclose(
            batch, np.asarray(eager(given, training=True)), atol=0.255
        )  # 1e-3 of full scale


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_inputs_are_not_changed(dtype):
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
        ("blur", 2.5, 2),
        ("jpeg", 100, 99),
        ("mixup", -1, 10),
    ],
)
def test_refuses_settings_out_of_range(setting, value, limit):
    with pytest.raises(InputError, match=f"^{setting}={value}; expected 0 to {limit}\\.$"):
        AugmentSettings(**{setting: value})
    AugmentSettings(**{setting: limit})


def test_refuses_an_unknown_fill():
    with pytest.raises(InputError, match="fill='wrap'; expected one of nearest, constant, reflect"):
        AugmentSettings(fill="wrap")


def test_values_override_a_preset():
    changed = augmentation("default", {"rotation_deg": 3, "fill": "reflect"})
    assert changed == dataclasses.replace(DEFAULT, rotation_deg=3, fill="reflect")
    with pytest.raises(InputError, match="augment has no rotate; it has fill, rotation_deg"):
        augmentation("default", {"rotate": 3})
    with pytest.raises(
        InputError, match="augment='mild'; expected one of none, classic, default, strong"
    ):
        augmentation("mild", {})


def test_classic_has_the_settings_of_the_reference_systems():
    assert PRESETS["classic"] == AugmentSettings(shear_deg=0.2, zoom=0.2, flip=0.5, fill="nearest")
