"""Blur compared with SciPy, compression with a JPEG encoder."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import ndimage

from cxr_tfds.augmentation.degrade import blur, compress
from cxr_tfds.augmentation.presets import LIMITS
from cxr_tfds.phantom.drawing import draw


def radiograph(size, seed=0):
    """Returns a drawn radiograph, float32 (1, *size, 1), 0 to 255."""
    image = Image.fromarray(draw("none", np.random.default_rng(seed))).resize(size[::-1])
    return np.asarray(image, np.float32)[np.newaxis, ..., np.newaxis]


@pytest.mark.parametrize("sigma", [0.5, 1.0, LIMITS["blur"]])
def test_blur_agrees_with_scipy(sigma):
    image = radiograph((50, 61))
    ours = np.asarray(blur(image, np.array([sigma], np.float32)))[0, ..., 0]
    theirs = ndimage.gaussian_filter(image[0, ..., 0], sigma, mode="nearest", truncate=4 / sigma)
    np.testing.assert_allclose(ours, theirs, atol=0.01)


def test_blur_worked_by_hand():
    point = np.zeros((1, 9, 9, 1), np.float32)
    point[0, 4, 4, 0] = 255
    weights = np.exp(-0.5 * np.arange(-4, 5) ** 2)
    weights /= weights.sum()
    expected = 255 * np.outer(weights, weights)
    np.testing.assert_allclose(
        np.asarray(blur(point, np.ones(1, np.float32)))[0, ..., 0], expected, rtol=1e-4
    )


def test_each_image_has_its_own_blur_and_zero_is_the_identity():
    images = np.concatenate([radiograph((40, 40), seed) for seed in (0, 0, 1)])
    result = np.asarray(blur(images, np.array([0, 1.5, 0], np.float32)))
    np.testing.assert_array_equal(result[[0, 2]], images[[0, 2]])
    assert np.abs(result[1] - images[1]).max() > 5


@pytest.mark.parametrize("quality", [10, 30, 60, 90])
@pytest.mark.parametrize("size", [(64, 80), (61, 83)])
def test_compression_agrees_with_an_encoder(quality, size):
    image = radiograph(size)
    buffer = io.BytesIO()
    Image.fromarray(image[0, ..., 0].astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    theirs = np.asarray(Image.open(buffer), np.float32)
    ours = np.asarray(compress(image, np.array([quality], np.float32)))[0, ..., 0]
    lost = np.abs(image[0, ..., 0] - theirs).mean()
    assert np.abs(ours - theirs).mean() < 0.5 * lost + 0.35  # the encoder also rounds to integers


def test_lower_quality_loses_more_of_each_image():
    image = radiograph((64, 64))
    qualities = np.array([5, 25, 50, 75, 95, 100], np.float32)
    lost = np.abs(np.asarray(compress(np.repeat(image, 6, axis=0), qualities)) - image).mean(
        axis=(1, 2, 3)
    )
    assert (np.diff(lost) < 0).all()
    assert lost[-1] < 0.4


def test_channels_are_compressed_as_separate_grey_images():
    grey = [radiograph((31, 45), seed) for seed in range(3)]
    quality = np.array([20], np.float32)
    together = np.asarray(compress(np.concatenate(grey, axis=-1), quality))
    alone = np.concatenate([np.asarray(compress(image, quality)) for image in grey], axis=-1)
    np.testing.assert_allclose(together, alone, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_shape_dtype_and_range_are_kept(dtype):
    images = tf.cast(np.repeat(radiograph((31, 45)), 2, axis=0), dtype)
    for result in (
        blur(images, tf.constant([0.3, 2.0])),
        compress(images, tf.constant([3.0, 80.0])),
    ):
        assert result.dtype == images.dtype
        assert result.shape == images.shape
        values = np.asarray(tf.cast(result, tf.float32))
        assert values.min() >= 0
        assert values.max() <= 255


@pytest.mark.slow
def test_jitted_agrees():
    images = np.concatenate([radiograph((48, 56), seed) for seed in range(3)])
    sigma, quality = np.array([0, 0.7, 2], np.float32), np.array([100, 50, 20], np.float32)
    # A coefficient on the border between two steps may round either way.
    for function, values, part in ((blur, sigma, 0), (compress, quality, 0.001)):
        jitted = np.asarray(tf.function(function, jit_compile=True)(images, values))
        difference = np.abs(jitted - np.asarray(function(images, values)))
        assert np.mean(difference > 0.255) <= part
