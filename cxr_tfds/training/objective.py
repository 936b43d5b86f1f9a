"""What training minimises: cross entropy of each image, with smoothed labels and weighted classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from cxr_tfds.errors import InputError
from cxr_tfds.training.settings import class_weights

Losses = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # targets, logits -> float32 (B,)


def weights_of_classes(text: str, counts: Sequence[int], labels: Sequence[str]) -> np.ndarray:
    """float32 (K,) of a setting `class_weight`; `counts` are the training images of each class.

    "balanced" gives N / (K n), as scikit-learn's `compute_class_weight` does.

    Raises:
      InputError: it has not one number for each class.
    """
    if text == "none":
        return np.ones(len(labels), np.float32)
    if text == "balanced":
        return (sum(counts) / (len(labels) * np.asarray(counts, np.float64))).astype(np.float32)
    given = class_weights(text)
    if len(given) != len(labels):
        raise InputError(
            f"class_weight={text!r} has {len(given)} numbers; expected {len(labels)}, for {', '.join(labels)}."
        )
    return np.asarray(given, np.float32)


def make_loss(weights: np.ndarray, smoothing: float) -> Losses:
    """The loss of each image.

    Args:
      weights: float32 (K,), of the classes; a mixed label has its share of each.
      smoothing: part of each label that is spread evenly over all classes
        (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7).

    Returns:
      A function of targets and logits: float32 (B, 1) of both for two classes; for K > 2 classes
      targets int64 (B,) or float32 (B, K), logits float32 (B, K).
    """
    classes = len(weights)

    def two(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        smooth = targets * (1 - smoothing) + smoothing / 2
        losses = tf.nn.sigmoid_cross_entropy_with_logits(smooth, logits)
        return tf.squeeze(losses * (weights[0] + targets * (weights[1] - weights[0])), 1)

    def more(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        shares = tf.one_hot(targets, classes) if targets.dtype.is_integer else targets
        smooth = shares * (1 - smoothing) + smoothing / classes
        return tf.nn.softmax_cross_entropy_with_logits(smooth, logits) * tf.linalg.matvec(
            shares, weights
        )

    return two if classes == 2 else more
