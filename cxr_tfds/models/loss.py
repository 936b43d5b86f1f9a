"""The loss of a Keras model of one's own for several findings an image."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="cxr_tfds")
def findings_loss(targets: Any, logits: Any) -> Any:
    """Returns the binary cross entropy of each image, averaged over the findings that count.

    Use it as `model.compile(loss=cxr_tfds.findings_loss)`.

    Args:
      targets: float (N, K): 1 present, 0 absent, NaN where a finding does not count.
      logits: float (N, K), without a sigmoid.

    Returns:
      float (N,); 0 for an image in which no finding counts.
    """
    counted = ops.logical_not(ops.isnan(targets))
    # Replaced before the loss, because the gradient of NaN times 0 is NaN.
    known = ops.where(counted, targets, ops.zeros_like(targets))
    losses = ops.binary_crossentropy(known, logits, from_logits=True)
    weights = ops.cast(counted, losses.dtype)
    return ops.sum(losses * weights, axis=-1) / ops.maximum(ops.sum(weights, axis=-1), 1)
