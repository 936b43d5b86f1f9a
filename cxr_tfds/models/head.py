"""The last layer of every model."""

from __future__ import annotations

from typing import Any


def logits(x: Any, classes: int) -> Any:
    """Returns float32 logits of features (N, F): (N, 1) for two classes, (N, K) for K > 2."""
    from keras import layers

    return layers.Dense(1 if classes == 2 else classes, dtype="float32", name="logits")(x)
