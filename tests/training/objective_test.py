"""The loss of each image, worked by hand and against Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.utils.class_weight import compute_class_weight

from cxr_tfds.errors import InputError
from cxr_tfds.training.objective import make_loss, weights_of_classes

LOGITS = np.array([[2.0, -1.0, 0.5], [0.1, 0.2, 0.3], [-3.0, 1.0, 0.0]], np.float32)


def test_two_classes():
    logits = np.array([[2.0], [-1.0], [0.0]], np.float32)
    targets = np.array([[1.0], [1.0], [0.25]], np.float32)  # the last is mixed
    found = make_loss(np.array([2.0, 3.0], np.float32), 0.1)(
        tf.constant(targets), tf.constant(logits)
    ).numpy()
    keras_loss = keras.losses.BinaryCrossentropy(
        from_logits=True, label_smoothing=0.1, reduction=None
    )
    np.testing.assert_allclose(found, keras_loss(targets, logits).numpy() * [3, 3, 2.25], rtol=1e-6)


def test_plain_losses_of_two_classes_by_hand():
    found = make_loss(np.ones(2, np.float32), 0.0)(
        tf.constant([[1.0], [0.0]]), tf.constant([[0.0], [np.log(3.0)]])
    )
    np.testing.assert_allclose(found, np.log([2, 4]), rtol=1e-6)


def test_more_classes():
    labels = np.array([0, 2, 1])
    weights = np.array([1.0, 2.0, 5.0], np.float32)
    losses = make_loss(weights, 0.2)
    keras_loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.2, reduction=None
    )
    expected = keras_loss(np.eye(3, dtype=np.float32)[labels], LOGITS).numpy() * weights[labels]
    np.testing.assert_allclose(
        losses(tf.constant(labels), tf.constant(LOGITS)), expected, rtol=1e-6
    )
    shares = np.array([[0.5, 0.5, 0], [0, 0, 1], [0, 1, 0]], np.float32)
    mixed = losses(tf.constant(shares), tf.constant(LOGITS)).numpy()
    np.testing.assert_allclose(mixed[0], keras_loss(shares, LOGITS).numpy()[0] * 1.5, rtol=1e-6)


def test_weights_of_classes():
    labels = ("a", "b", "c")
    np.testing.assert_array_equal(weights_of_classes("none", (1, 2, 3), labels), [1, 1, 1])
    balanced = compute_class_weight(
        "balanced", classes=np.arange(3), y=np.repeat(np.arange(3), (1, 2, 3))
    )
    np.testing.assert_allclose(
        weights_of_classes("balanced", (1, 2, 3), labels), balanced, rtol=1e-6
    )
    np.testing.assert_array_equal(weights_of_classes("1, 2.5,3", (1, 2, 3), labels), [1, 2.5, 3])
    with pytest.raises(
        InputError, match=r"class_weight='1,2' has 2 numbers; expected 3, for a, b, c\."
    ):
        weights_of_classes("1,2", (1, 2, 3), labels)
