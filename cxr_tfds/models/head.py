"""The last layer of every model."""

from __future__ import annotations

from typing import Any


def logits(x: Any, outputs: int) -> Any:
    """Returns float32 logits (N, `outputs`) of features (N, F)."""
    from keras import layers

    return layers.Dense(outputs, dtype="float32", name="logits")(x)
