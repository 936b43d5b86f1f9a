"""The cost of a model for one image."""

from __future__ import annotations

import math
from typing import Any


def multiply_adds(model: Any) -> int:
    """Returns the multiply-add operations of all convolutions and dense layers for one image.

    As usual, biases, batch norm, activations and pooling are not counted.

    Args:
      model: Functional Keras model of Conv2D, DepthwiseConv2D, SeparableConv2D, Dense and layers
        without kernels; images channels last.
    """
    return sum(_layer_cost(layer) for layer in model.layers)


def _layer_cost(layer: Any) -> int:
    from keras import Model, layers

    if isinstance(layer, Model):
        return multiply_adds(layer)
    if isinstance(layer, layers.SeparableConv2D):
        kernels = [layer.depthwise_kernel, layer.pointwise_kernel]
    elif isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)):
        kernels = [layer.kernel]
    else:
        return 0
    # Each weight of a kernel is used once at every position of the output.
    positions = math.prod(layer.output.shape[1:-1])
    return positions * sum(math.prod(kernel.shape) for kernel in kernels)
