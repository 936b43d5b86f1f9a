"""The training loss: cross entropy with smoothed labels and weighted classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from cxr_tfds.errors import InputError
from cxr_tfds.task import Task
from cxr_tfds.training.settings import parse_class_weights

# Targets and logits (B, K) to the sum of the losses, and the number of values that count. Both are
# float32 scalars. The loss of a batch is the sum divided by the number.
LossFunction = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def class_weights(
    text: str, counts: Sequence[int] | np.ndarray, labels: Sequence[str]
) -> np.ndarray:
    """Returns the weights of a `class_weight` setting.

    Args:
      text: The setting. "balanced" gives N / (2 n) in each finding and N / (K n) in each of K
        classes, as scikit-learn's `compute_class_weight` does.
      counts: Number of training images of each class (K,); for several findings the numbers of
        images where each is absent and present (2, K).
      labels: Names of the classes or findings (K,).

    Returns:
      float32, shaped as `counts`.
    """
    numbers = np.asarray(counts, np.float64)
    weights = np.ones(numbers.shape, np.float32)
    if text == "none":
        return weights
    if text == "balanced":
        # No image has a class without images, so its weight does not matter.
        balanced = numbers.sum(axis=0) / (len(numbers) * np.maximum(numbers, 1))
        return balanced.astype(np.float32)
    given = parse_class_weights(text)
    if len(given) != len(labels):
        raise InputError(
            f"class_weight={text!r} has {len(given)} numbers; expected {len(labels)}, one for "
            f"each of {', '.join(labels)}."
        )
    weights[-1 if numbers.ndim == 2 else slice(None)] = given
    return weights


def make_loss(task: Task, weights: np.ndarray, smoothing: float) -> LossFunction:
    """Returns the loss function of a task.

    Mixed labels get a mixture of the class weights. A finding whose target is NaN does not count.

    Args:
      task: Binary and findings: sigmoid cross entropy. Multiclass: softmax cross entropy.
      weights: Class weights (K,); for several findings weights of absent and present (2, K).
      smoothing: Fraction of each label that is spread over all classes (Szegedy et al. 2016,
        section 7, https://arxiv.org/abs/1512.00567); over absent and present for several findings.
    """
    if task is Task.MULTICLASS:
        return _softmax_loss(weights, smoothing)
    absent, present = weights if task is Task.FINDINGS else weights[:, np.newaxis]

    def loss(targets: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        counted = tf.logical_not(tf.math.is_nan(targets))
        # Replaced before the loss, because the gradient of NaN times 0 is NaN.
        known = tf.where(counted, targets, 0.0)
        smooth = known * (1 - smoothing) + smoothing / 2
        losses = tf.nn.sigmoid_cross_entropy_with_logits(smooth, logits)
        losses *= absent + known * (present - absent)
        total = tf.reduce_sum(tf.where(counted, losses, 0.0))
        return total, tf.reduce_sum(tf.cast(counted, tf.float32))

    return loss


def count_correct(task: Task, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns how many values are predicted correctly at a probability of 0.5, float32.

    Multiclass: images whose most probable class is right. Mixed labels count as the larger part.
    """
    if task is Task.MULTICLASS:
        correct = tf.argmax(logits, axis=-1) == tf.argmax(targets, axis=-1)
    else:
        correct = tf.logical_not(tf.math.is_nan(targets)) & ((logits > 0) == (targets > 0.5))
    return tf.reduce_sum(tf.cast(correct, tf.float32))


def _softmax_loss(weights: np.ndarray, smoothing: float) -> LossFunction:
    def loss(targets: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        smooth = targets * (1 - smoothing) + smoothing / len(weights)
        losses = tf.nn.softmax_cross_entropy_with_logits(smooth, logits)
        total = tf.reduce_sum(losses * tf.linalg.matvec(targets, weights))
        return total, tf.cast(tf.shape(targets)[0], tf.float32)

    return loss
