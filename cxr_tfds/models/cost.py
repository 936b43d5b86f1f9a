"""What one image costs a model."""

from __future__ import annotations

import math
from typing import Any


def multiply_adds(model: Any) -> int:
    """Multiplications, each with its addition, for one image: of all convolutions and dense layers.

    What goes into biases, batch norm, activations and pooling is left out, as is usual.

    Args:
      model: Keras, functional, of Conv2D, DepthwiseConv2D, SeparableConv2D, Dense and layers without kernels;
        images channels last.
    """
    return sum(_of_layer(layer) for layer in model.layers)


def _of_layer(layer: Any) -> int:
    from keras import Model, layers

    if isinstance(layer, Model):
        return multiply_adds(layer)
    if isinstance(layer, layers.SeparableConv2D):
        places = math.prod(layer.output.shape[1:3])
        return places * (
            math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
        )
    if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)):
        # A kernel of (h, w, channels in, filters), depthwise (h, w, channels, multiplier), dense (in, out):
        # each of its weights is used once at every place.
        return math.prod(layer.output.shape[1:-1]) * math.prod(layer.kernel.shape)
    return 0
