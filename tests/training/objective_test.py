"""The loss of each image against values worked by hand and against Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.utils.class_weight import compute_class_weight

from cxr_tfds.errors import InputError
from cxr_tfds.training.objective import class_weights, make_loss

LOGITS = np.array([[2.0, -1.0, 0.5], [0.1, 0.2, 0.3], [-3.0, 1.0, 0.0]], np.float32)


def test_binary_loss_agrees_with_keras():
    logits = np.array([[2.0], [-1.0], [0.0]], np.float32)
    targets = np.array([[1.0], [1.0], [0.25]], np.float32)  # the last label is mixed
    found = make_loss(np.array([2.0, 3.0], np.float32), 0.1)(
        tf.constant(targets), tf.constant(logits)
    ).numpy()
    keras_loss = keras.losses.BinaryCrossentropy(
        from_logits=True, label_smoothing=0.1, reduction=None
    )
    np.testing.assert_allclose(found, keras_loss(targets, logits).numpy() * [3, 3, 2.25], rtol=1e-6)


def test_binary_loss_worked_by_hand():
    found = make_loss(np.ones(2, np.float32), 0.0)(
        tf.constant([[1.0], [0.0]]), tf.constant([[0.0], [np.log(3.0)]])
    )
    np.testing.assert_allclose(found, np.log([2, 4]), rtol=1e-6)


def test_multiclass_loss_agrees_with_keras():
    labels = np.array([0, 2, 1])
    weights = np.array([1.0, 2.0, 5.0], np.float32)
    losses = make_loss(weights, 0.2)
    keras_loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.2, reduction=None
    )
    expected = keras_loss(np.eye(3, dtype=np.float32)[labels], LOGITS).numpy() * weights[labels]
    targets = tf.constant(np.eye(3, dtype=np.float32)[labels])
    np.testing.assert_allclose(losses(targets, tf.constant(LOGITS)), expected, rtol=1e-6)
    shares = np.array([[0.5, 0.5, 0], [0, 0, 1], [0, 1, 0]], np.float32)
    mixed = losses(tf.constant(shares), tf.constant(LOGITS)).numpy()
    np.testing.assert_allclose(mixed[0], keras_loss(shares, LOGITS).numpy()[0] * 1.5, rtol=1e-6)


def test_class_weights_agree_with_scikit_learn():
    labels = ("a", "b", "c")
    np.testing.assert_array_equal(class_weights("none", (1, 2, 3), labels), [1, 1, 1])
    balanced = compute_class_weight(
        "balanced", classes=np.arange(3), y=np.repeat(np.arange(3), (1, 2, 3))
    )
    np.testing.assert_allclose(class_weights("balanced", (1, 2, 3), labels), balanced, rtol=1e-6)
    np.testing.assert_array_equal(class_weights("1, 2.5,3", (1, 2, 3), labels), [1, 2.5, 3])
    with pytest.raises(
        InputError, match=r"class_weight='1,2' has 2 numbers; expected 3, one for each of a, b, c\."
    ):
        class_weights("1,2", (1, 2, 3), labels)
