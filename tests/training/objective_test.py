"""The loss against values worked by hand and against Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.utils.class_weight import compute_class_weight

from cxr_tfds.errors import InputError
from cxr_tfds.task import Task
from cxr_tfds.training.objective import class_weights, count_correct, make_loss

LOGITS = np.array([[2.0, -1.0, 0.5], [0.1, 0.2, 0.3], [-3.0, 1.0, 0.0]], np.float32)
NAN = np.nan


def losses(task, weights, smoothing, targets, logits):
    """Returns the loss of each image and the number of values that count in all of them."""
    loss = make_loss(task, np.asarray(weights, np.float32), smoothing)
    targets, logits = np.asarray(targets, np.float32), np.asarray(logits, np.float32)
    each = [
        float(loss(tf.constant(targets[i : i + 1]), tf.constant(logits[i : i + 1]))[0])
        for i in range(len(targets))
    ]
    total, counted = loss(tf.constant(targets), tf.constant(logits))
    np.testing.assert_allclose(total, sum(each), rtol=1e-5)
    return each, float(counted)


def test_binary_loss_agrees_with_keras():
    logits = np.array([[2.0], [-1.0], [0.0]], np.float32)
    targets = np.array([[1.0], [1.0], [0.25]], np.float32)  # the last label is mixed
    found, counted = losses(Task.BINARY, [2, 3], 0.1, targets, logits)
    keras_loss = keras.losses.BinaryCrossentropy(
        from_logits=True, label_smoothing=0.1, reduction=None
    )
    np.testing.assert_allclose(found, keras_loss(targets, logits).numpy() * [3, 3, 2.25], rtol=1e-6)
    assert counted == 3


def test_binary_loss_worked_by_hand():
    found, _ = losses(Task.BINARY, [1, 1], 0.0, [[1], [0]], [[0], [np.log(3.0)]])
    np.testing.assert_allclose(found, np.log([2, 4]), rtol=1e-6)


def test_multiclass_loss_agrees_with_keras():
    labels = np.array([0, 2, 1])
    weights = np.array([1.0, 2.0, 5.0], np.float32)
    keras_loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.2, reduction=None
    )
    expected = keras_loss(np.eye(3, dtype=np.float32)[labels], LOGITS).numpy() * weights[labels]
    found, counted = losses(Task.MULTICLASS, weights, 0.2, np.eye(3)[labels], LOGITS)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert counted == 3
    shares = np.array([[0.5, 0.5, 0], [0, 0, 1], [0, 1, 0]], np.float32)
    mixed, _ = losses(Task.MULTICLASS, weights, 0.2, shares, LOGITS)
    np.testing.assert_allclose(mixed[0], keras_loss(shares, LOGITS).numpy()[0] * 1.5, rtol=1e-6)


def test_loss_of_findings_leaves_out_what_does_not_count():
    targets = [[1, 0, NAN], [NAN, NAN, NAN], [NAN, 1, 0]]
    # With the logits log(3) and 0 the losses are log(4/3) or log(4), and log(2).
    logits = np.log([[3, 1, 3], [3, 3, 3], [1, 3, 3]])
    found, counted = losses(Task.FINDINGS, np.ones((2, 3)), 0.0, targets, logits)
    expected = [np.log(4 / 3) + np.log(2), 0, np.log(4 / 3) + np.log(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert counted == 4


def test_loss_of_findings_weights_absent_and_present_and_smooths():
    found, _ = losses(Task.FINDINGS, [[2, 5], [3, 7]], 0.0, [[1, 0], [0, 1]], np.zeros((2, 2)))
    np.testing.assert_allclose(found, np.log(2) * np.array([3 + 5, 2 + 7]), rtol=1e-6)
    # A present target becomes 0.9 and an absent one 0.1; softplus(x) - target * x.
    found, _ = losses(Task.FINDINGS, np.ones((2, 2)), 0.2, [[1, 0]], np.log([[3, 3]]))
    np.testing.assert_allclose(found, [2 * np.log(4) - np.log(3)], rtol=1e-6)


def test_gradient_is_zero_where_a_finding_does_not_count():
    loss = make_loss(Task.FINDINGS, np.ones((2, 2), np.float32), 0.1)
    logits = tf.Variable([[0.5, -100.0]])
    with tf.GradientTape() as tape:
        total, _ = loss(tf.constant([[1.0, np.nan]]), logits)
    gradient = tape.gradient(total, logits).numpy()[0]
    np.testing.assert_allclose(gradient, [1 / (1 + np.exp(-0.5)) - 0.95, 0], rtol=1e-5)


@pytest.mark.parametrize(
    ("task", "targets", "logits", "correct"),
    [
        (Task.BINARY, [[1], [0], [0.6], [0]], [[2], [-1], [-3], [1]], 2),
        (Task.FINDINGS, [[1, NAN, 0], [NAN, NAN, 1]], [[1, 5, 5], [1, 1, 1]], 2),
        (Task.MULTICLASS, [[0, 1, 0], [0.6, 0.4, 0]], [[0, 1, 2], [3, 1, 2]], 1),
    ],
)
def test_counts_correct_values(task, targets, logits, correct):
    found = count_correct(task, tf.constant(targets, tf.float32), tf.constant(logits, tf.float32))
    assert float(found) == correct


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


def test_class_weights_of_findings():
    counts = np.array([[6, 1, 0], [2, 1, 5]])  # absent, present
    balanced = class_weights("balanced", counts, "abc")
    np.testing.assert_allclose(balanced[:, 0], [8 / 12, 8 / 4])
    np.testing.assert_allclose(balanced[:, 1], [1, 1])
    assert np.isfinite(balanced).all()
    found = class_weights("2,3,4", counts, "abc")
    np.testing.assert_array_equal(found, [[1, 1, 1], [2, 3, 4]])
