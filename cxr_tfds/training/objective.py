"""The training loss: cross entropy of each image, with smoothed labels and weighted classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from cxr_tfds.errors import InputError
from cxr_tfds.training.settings import parse_class_weights

LossFunction = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # targets, logits -> float32 (B,)


def class_weights(text: str, counts: Sequence[int], labels: Sequence[str]) -> np.ndarray:
    """Returns the class weights float32 (K,) of a `class_weight` setting.

    "balanced" gives N / (K n), as scikit-learn's `compute_class_weight` does. `counts` are the
    numbers of training images.
    """
    if text == "none":
        return np.ones(len(labels), np.float32)
    if text == "balanced":
        return (sum(counts) / (len(labels) * np.asarray(counts, np.float64))).astype(np.float32)
    weights = parse_class_weights(text)
    if len(weights) != len(labels):
        raise InputError(
            f"class_weight={text!r} has {len(weights)} numbers; expected {len(labels)}, one for "
            f"each of {', '.join(labels)}."
        )
    return np.asarray(weights, np.float32)


def make_loss(weights: np.ndarray, smoothing: float) -> LossFunction:
    """Returns the loss of each image for targets and logits (B, 1) or, for K > 2 classes, (B, K).

    An image with mixed labels gets a mixture of the class weights. `smoothing` is the fraction of
    each label that is spread over all classes (Szegedy et al. 2016, section 7,
    https://arxiv.org/abs/1512.00567).
    """
    classes = len(weights)

    def binary_loss(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        smooth = targets * (1 - smoothing) + smoothing / 2
        losses = tf.nn.sigmoid_cross_entropy_with_logits(smooth, logits)
        return tf.squeeze(losses * (weights[0] + targets * (weights[1] - weights[0])), 1)

    def multiclass_loss(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        smooth = targets * (1 - smoothing) + smoothing / classes
        losses = tf.nn.softmax_cross_entropy_with_logits(smooth, logits)
        return losses * tf.linalg.matvec(targets, weights)

    return binary_loss if classes == 2 else multiclass_loss
