"""Registers the layer and the loss of this package with Keras, when Keras is imported.

`keras.models.load_model` finds only registered objects, and registering them needs Keras, which
`import cxr_tfds` must not load.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


def register_with_keras() -> None:
    """Registers `Augment` and `findings_loss` now if Keras is loaded, or once it is."""
    if "keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _KerasFinder())


def _register() -> None:
    importlib.import_module("cxr_tfds.augmentation.augment")  # registers its layer
    register: Any = importlib.import_module("keras.saving").register_keras_serializable
    register("cxr_tfds")(importlib.import_module("cxr_tfds.models.loss").findings_loss)


class _KerasFinder(MetaPathFinder):
    """Finds Keras where Python does, and registers after it was loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == "keras" else None
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_register(module: ModuleType) -> None:
            load(module)
            sys.meta_path.remove(self)  # not before: TensorFlow looks for Keras without loading it
            _register()

        spec.loader.exec_module = load_and_register  # type: ignore[method-assign]
        return spec
