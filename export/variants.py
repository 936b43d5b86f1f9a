"""What an exported file takes and gives: the three variants."""

from __future__ import annotations

import enum
from typing import Any

import keras
import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.activation import class_activation
from cxr_tfds.text import say

from .edge.runtime import HEATMAP, OUTPUT
from .rgb import with_grey
from .stem import pack_columns


class Variant(str, enum.Enum):
    """What a file takes and gives."""

    GREY = "grey"  # grey pixels to logits and, if the network has one, the class activation map
    PLAIN = "plain"  # grey pixels to logits
    RGB = "rgb"  # RGB pixels to probabilities, with standard metadata; see `rgb`

    def wrap(self, model: Any) -> Any:
        """Returns the Keras model of this variant, given one from pixels to logits."""
        if self is Variant.RGB:
            return with_grey(pack_columns(model))
        if self is Variant.GREY:
            try:
                model = with_heatmap(model)
            except InputError as err:
                say(f"without a heat map: {err}")
        return pack_columns(model)

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Returns images (N, S, S, C), for RGB a view (N, S, S, 3) that repeats one channel."""
        if self is Variant.RGB:
            return np.broadcast_to(images[..., :1], (*images.shape[:-1], 3))
        return images


def with_heatmap(model: Any) -> Any:
    """Returns the model with outputs `logits` (N, K) and `heatmap` (N, h, w, K)."""
    heatmap = class_activation(model, HEATMAP)
    return keras.Model(model.inputs, {OUTPUT: model.output, HEATMAP: heatmap}, name=model.name)
