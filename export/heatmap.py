"""A second output that tells which places speak for a class."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from cxr_tfds.errors import InputError

from .edge.runtime import HEATMAP, OUTPUT


def with_heatmap(model: Any) -> Any:
    """The model with its class activation map: a dictionary of `logits` (N, K) and `heatmap` (N, h, w, K).

    Zhou et al. 2016, https://arxiv.org/abs/1512.04150. Exact, not an estimate: the dense layer is linear, so
    what it makes of the mean of the feature maps is the mean of what it makes of each place. The mean of
    the heatmap over h and w plus the bias is the logit.

    Args:
      model: ends in global average pooling and a dense layer without activation.

    Raises:
      InputError: it ends otherwise.
    """
    pooling, dense = model.layers[-2:]
    right = isinstance(pooling, keras.layers.GlobalAveragePooling2D) and isinstance(dense, keras.layers.Dense)
    if not right or dense.activation is not keras.activations.linear:
        raise InputError(
            f"--heatmap: {model.name} ends in {type(pooling).__name__} and {type(dense).__name__}; expected "
            "GlobalAveragePooling2D and Dense without activation."
        )
    each_place = keras.layers.Conv2D(dense.units, 1, use_bias=False, dtype="float32", name=HEATMAP)
    heatmap = each_place(pooling.input)
    each_place.set_weights([np.asarray(dense.kernel)[np.newaxis, np.newaxis]])
    return keras.Model(model.inputs, {OUTPUT: model.output, HEATMAP: heatmap}, name=model.name)
