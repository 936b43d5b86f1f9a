"""The last layer, which every model shares."""

from __future__ import annotations

from typing import Any


def logits(x: Any, classes: int) -> Any:
    """Features (N, F) to float32 logits: (N, 1) for two classes, (N, K) for K > 2; the layer is named `logits`."""
    from keras import layers

    return layers.Dense(1 if classes == 2 else classes, dtype="float32", name="logits")(x)
