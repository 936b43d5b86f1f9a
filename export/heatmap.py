"""A second output that tells which places speak for a class."""

from __future__ import annotations

from typing import Any

import keras

from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.activation import class_activation

from .edge.runtime import HEATMAP, OUTPUT


def with_heatmap(model: Any) -> Any:
    """The model with its class activation map: a dictionary of `logits` (N, K) and `heatmap` (N, h, w, K).

    See `cxr_tfds.evaluation.activation.class_activation`.

    Args:
      model: ends in global average pooling and a dense layer without activation.

    Raises:
      InputError: it ends otherwise.
    """
    try:
        heatmap = class_activation(model, HEATMAP)
    except InputError as err:
        raise InputError(f"--heatmap: {err}") from err
    return keras.Model(model.inputs, {OUTPUT: model.output, HEATMAP: heatmap}, name=model.name)
