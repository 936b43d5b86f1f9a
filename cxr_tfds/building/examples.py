"""The record of an image: its fields, and how an image becomes one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cxr_tfds.building.config import RadiographConfig
from cxr_tfds.building.fitting import Fitted
from cxr_tfds.errors import BadImage
from cxr_tfds.sources import SourceImage

UNKNOWN_FINDING = -1  # how TFDS writes "no label"


def features(
    config: RadiographConfig, classes: Sequence[str], findings: Sequence[str]
) -> tfds.features.FeaturesDict:
    """The fields of a dataset; without `classes` and `findings` these get their names later."""
    if config.size is None:
        image = tfds.features.Tensor(shape=(), dtype=np.object_, doc="The source file.")
    else:
        image = tfds.features.Tensor(
            shape=(config.size, config.size, config.channels),
            dtype=np.uint8,
            encoding=tfds.features.Encoding.BYTES,
            doc="Greyscale, 0 to 255, bone is bright (MONOCHROME2).",
        )
    return tfds.features.FeaturesDict(
        {
            "image": image,
            "label": tfds.features.ClassLabel(names=list(classes) or None),
            "finding": tfds.features.ClassLabel(names=list(findings) or None),
            "image_id": tfds.features.Text(
                doc="Path in the source in one spelling, such as split/class/name; unique."
            ),
            "patient_id": tfds.features.Text(doc="Empty where the source does not tell."),
            "height": tfds.features.Scalar(np.int32, doc="Of the source image, pixels."),
            "width": tfds.features.Scalar(np.int32, doc="Of the source image, pixels."),
        }
    )


def record(
    image: SourceImage, result: Fitted | BadImage, shape: Sequence[int] | None
) -> dict[str, Any] | None:
    """What is written of an image; of one that cannot be used a placeholder of `shape`, or None without a shape."""
    if isinstance(result, BadImage):
        if shape is None:
            return None
        # TFDS stops at a split without examples; going on finds the bad files of all splits.
        stored, height, width = np.zeros(shape, np.uint8) if shape else b"", 0, 0
    else:
        stored, height, width = result.stored, result.facts.height, result.facts.width
    return {
        "image": stored,
        "label": image.label,
        "finding": UNKNOWN_FINDING if image.finding is None else image.finding,
        "image_id": image.image_id,
        "patient_id": image.patient_id,
        "height": height,
        "width": width,
    }
