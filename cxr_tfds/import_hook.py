"""Registers classes of this package with Keras and TFDS when those are imported.

`keras.models.load_model` finds only registered layers, and TFDS shows only images whose feature it
knows. Registering needs Keras or TFDS, which `import cxr_tfds` must not load.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

# Package to the modules that register something with it when they are imported.
_REGISTER = {
    "keras": ("cxr_tfds.augmentation.augment", "cxr_tfds.models.loss"),
    "tensorflow_datasets": ("cxr_tfds.reading.raw_image",),
}


def register_on_import() -> None:
    """Registers with each package now if it is loaded, or once it is."""
    for package in _REGISTER:
        if package in sys.modules:
            _register(package)
        else:
            sys.meta_path.insert(0, _Finder(package))


def _register(package: str) -> None:
    for module in _REGISTER[package]:
        importlib.import_module(module)


class _Finder(MetaPathFinder):
    """Finds a package where Python does, and registers after it was loaded."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == self._package else None
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_register(module: ModuleType) -> None:
            load(module)
            sys.meta_path.remove(self)  # not before: TensorFlow looks for Keras without loading it
            _register(self._package)

        spec.loader.exec_module = load_and_register  # type: ignore[method-assign]
        return spec
