"""The feature of fitted images, which TFDS shows as images although they are stored raw.

Importing the module also lets TFDS show the datasets that it opens from a folder.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow_datasets as tfds

_TENSOR = f"{tfds.features.Tensor.__module__}.{tfds.features.Tensor.__name__}"


class RawImage(tfds.features.Tensor, tfds.features.Image):
    """Images uint8 (S, S, C), stored as S * S * C bytes without a header.

    TFDS's own `Image` stores PNG or JPEG, which takes longer to decode than to read. This one is a
    `Tensor` in everything that is stored, and an `Image` to `tfds.show_examples` and
    `tfds.as_dataframe`. `features.json` describes it as a `Tensor`, so that TFDS reads the dataset
    where cxr-tfds is not installed.
    """

    # TFDS looks up the class of each feature in `features.json` by this name, too.
    ALIASES = (_TENSOR,)

    def __init__(self, *, shape: tuple[int, ...], doc: Any = None) -> None:
        super().__init__(
            shape=shape, dtype=np.uint8, encoding=tfds.features.Encoding.BYTES, doc=doc
        )

    @property
    def _fully_qualified_class_name(self) -> str:
        return _TENSOR

    @classmethod
    def from_json_content(cls, value: Any) -> tfds.features.Tensor:
        """Returns the feature, or a plain `Tensor` if it is not such an image."""
        tensor = tfds.features.Tensor.from_json_content(value)
        if len(tensor.shape) != 3 or tensor.shape[-1] not in (1, 3):
            return tensor
        image = cls(shape=tensor.shape)
        return image if image.to_json_content() == tensor.to_json_content() else tensor
