"""The cost of a model for one image."""

from __future__ import annotations

import math
from typing import Any


def multiply_adds(model: Any) -> int:
    """Returns the multiply-add operations of all convolutions and dense layers for one image.

    As usual, biases, batch norm, activations and pooling are not counted. `model` is a functional
    Keras model with channels last.
    """
    total = 0
    for layer in model.layers:
        if hasattr(layer, "layers"):
            total += multiply_adds(layer)
            continue
        # Each weight of a kernel is used once at every position of the output.
        kernels = [weight for weight in layer.weights if len(weight.shape) > 1]
        positions = math.prod(layer.output.shape[1:-1])
        total += positions * sum(math.prod(kernel.shape) for kernel in kernels)
    return total
