"""From a folder of chest radiographs to a classifier on a small device.

The names in `__all__` are the public API. Each is imported when it is first used, so importing the
package loads neither TensorFlow nor click, and the device can import it too:

  import cxr_tfds as cxr

  data = cxr.open_dataset("chest_xray_pneumonia/224", "data")
  cxr.train(data, out="runs/first", epochs=30)
  cxr.export("runs/first", "models", formats=["int8"])
  cxr.Classifier("models/first-int8.tflite")("image.jpg").label
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cxr_tfds.errors import BadImage, InputError, MissingData

if TYPE_CHECKING:
    from cxr_tfds.augmentation.augment import Augment
    from cxr_tfds.augmentation.presets import AugmentSettings
    from cxr_tfds.models.loss import findings_loss
    from cxr_tfds.reading import Shard
    from cxr_tfds.reading.datasets import BuiltDataset, open_dataset
    from cxr_tfds.training.finish import evaluate
    from cxr_tfds.training.run import train

    # The core does not import `export`, not even for its types.
    Classifier: Any
    export: Any

__version__ = "0.1.0"

__all__ = [
    "Augment",
    "AugmentSettings",
    "BadImage",
    "BuiltDataset",
    "Classifier",
    "InputError",
    "MissingData",
    "Shard",
    "__version__",
    "evaluate",
    "export",
    "findings_loss",
    "open_dataset",
    "train",
]

# The module of each lazy name. `export` is not here: it is the package `cxr_tfds.export` itself,
# which can be called.
_MODULES = {
    "Augment": "cxr_tfds.augmentation.augment",
    "AugmentSettings": "cxr_tfds.augmentation.presets",
    "BuiltDataset": "cxr_tfds.reading.datasets",
    "Classifier": "cxr_tfds.export.edge.classifier",
    "Shard": "cxr_tfds.reading",
    "evaluate": "cxr_tfds.training.finish",
    "findings_loss": "cxr_tfds.models.loss",
    "open_dataset": "cxr_tfds.reading.datasets",
    "train": "cxr_tfds.training.run",
}


def __getattr__(name: str) -> Any:
    if name == "export":
        return importlib.import_module("cxr_tfds.export")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
