"""The class activation map of a model that ends in global average pooling and one dense layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from cxr_tfds.errors import InputError


def class_activation(model: Any, name: str = "activation") -> Any:
    """What each place adds to the logit of each class: the symbolic output (None, h, w, K) of a new layer `name`.

    Zhou et al. 2016, https://arxiv.org/abs/1512.04150. Exact, not an estimate: the dense layer is linear, so
    what it makes of the mean of the feature maps is the mean of what it makes of each place. The mean of
    the map over h and w plus the bias is the logit.

    Args:
      model: ends in global average pooling and a dense layer without activation; dropout between them is
        identity after training.
      name: of the layer, and so of the output.

    Raises:
      InputError: it ends otherwise.
    """
    layers: list[Any] = [
        layer for layer in model.layers if not isinstance(layer, keras.layers.Dropout)
    ]
    pooling, dense = layers[-2:]
    right = isinstance(pooling, keras.layers.GlobalAveragePooling2D) and isinstance(
        dense, keras.layers.Dense
    )
    if not right or dense.activation is not keras.activations.linear:
        raise InputError(
            f"{model.name} ends in {type(pooling).__name__} and {type(dense).__name__}; expected "
            "GlobalAveragePooling2D and Dense without activation."
        )
    each_place = keras.layers.Conv2D(dense.units, 1, use_bias=False, dtype="float32", name=name)
    places = each_place(pooling.input)
    each_place.set_weights([np.asarray(dense.kernel)[np.newaxis, np.newaxis]])
    return places


def activation_maps(model: Any, images: np.ndarray) -> np.ndarray | None:
    """Class activation maps of images (N, S, S, C): float32 (N, h, w, K); None where the model has none."""
    try:
        places = class_activation(model)
    except InputError:
        return None
    return np.asarray(keras.Model(model.input, places)(images, training=False))
