"""What an exported file takes and gives: the three variants."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.activation import class_activation

from .edge.runtime import HEATMAP, OUTPUT
from .formats import RGB_FORMATS
from .rgb import with_grey, with_probabilities


class Variant(str, enum.Enum):
    """What a file takes and gives."""

    GREY = "grey"  # grey pixels to logits
    HEATMAP = "heatmap"  # grey pixels to logits and the class activation map
    RGB = "rgb"  # RGB pixels to probabilities, with standard metadata; see `rgb`

    @property
    def suffix(self) -> str:
        """The end of the file name, before `.tflite`."""
        return "-rgb" if self is Variant.RGB else ""

    def describe(self, model: Any, channels: int) -> dict[str, Any]:
        """Returns the fields of the model info of a wrapped model that depend on the variant."""
        rgb, heatmap = self is Variant.RGB, self is Variant.HEATMAP
        return {
            "input": "rgb" if rgb else "grey",
            "channels": 3 if rgb else channels,
            "heatmap": heatmap,
            "grid": tuple(model.output[HEATMAP].shape[1:3]) if heatmap else None,
        }

    def check_formats(self, formats: Sequence[str]) -> None:
        """Raises an `InputError` if the variant does not exist in one of the formats."""
        for name in formats:
            if self is Variant.RGB and name not in RGB_FORMATS:
                raise InputError(
                    f"The rgb variant takes uint8 and gives float32; {name} does not support this. "
                    f"Choose {', '.join(RGB_FORMATS)}."
                )

    def wrap(self, model: Any) -> Any:
        """Returns the Keras model of this variant, given one from pixels to logits.

        Raises:
          InputError: The variant is HEATMAP and the model has no class activation map.
        """
        if self is Variant.HEATMAP:
            return with_heatmap(model)
        if self is Variant.RGB:
            return with_grey(model)
        return model

    def finish(
        self, flatbuffer: bytes, temperature: float, labels: tuple[str, ...], name: str
    ) -> bytes:
        """Returns the flatbuffer to publish; the RGB variant gives probabilities, not logits."""
        if self is Variant.RGB:
            return with_probabilities(flatbuffer, temperature, labels, name)
        return flatbuffer

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Returns images (N, S, S, C) as the variant takes them.

        The RGB variant takes (N, S, S, 3), a view that repeats the first channel.
        """
        if self is Variant.RGB:
            return np.broadcast_to(images[..., :1], (*images.shape[:-1], 3))
        return images


def with_heatmap(model: Any) -> Any:
    """Returns the model with outputs `logits` (N, K) and `heatmap` (N, h, w, K).

    Raises:
      InputError: The model has no class activation map, see `class_activation`.
    """
    heatmap = class_activation(model, HEATMAP)
    return keras.Model(model.inputs, {OUTPUT: model.output, HEATMAP: heatmap}, name=model.name)
