"""Class activation maps of models that end in global average pooling and one dense layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras.layers import Conv2D, Dense, Dropout, GlobalAveragePooling2D

from cxr_tfds.errors import InputError


def class_activation(model: Any, name: str = "activation") -> Any:
    """Returns the contribution of each place to the logit of each class, symbolic (None, h, w, K).

    Zhou et al. 2016, https://arxiv.org/abs/1512.04150. The map is exact: the dense layer is linear,
    so the mean of the map over h and w plus the bias is the logit. `name` is the name of the new
    layer and of its output. Raises an InputError if the model ends in other layers.
    """
    # Dropout is the identity after training.
    layers: list[Any] = [each for each in model.layers if not isinstance(each, Dropout)]
    pooling, dense = layers[-2:]
    if (
        not isinstance(pooling, GlobalAveragePooling2D)
        or not isinstance(dense, Dense)
        or dense.activation is not keras.activations.linear
    ):
        raise InputError(
            f"{model.name} ends in {type(pooling).__name__} and {type(dense).__name__}; expected "
            "GlobalAveragePooling2D and Dense without activation."
        )
    projection = Conv2D(dense.units, 1, use_bias=False, dtype="float32", name=name)
    maps = projection(pooling.input)
    projection.set_weights([np.asarray(dense.kernel)[np.newaxis, np.newaxis]])
    return maps


def activation_maps(model: Any, images: np.ndarray) -> np.ndarray | None:
    """Returns class activation maps of images (N, S, S, C), float32 (N, h, w, K), if they exist."""
    try:
        maps = class_activation(model)
    except InputError:
        return None
    return np.asarray(keras.Model(model.input, maps)(images, training=False))
