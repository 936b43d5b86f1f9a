"""From a run folder to a verified `.tflite`; `cxr_tfds.export(...)` exports a run.

Importing the package loads no TensorFlow.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A module that can be called: `cxr_tfds.export` is this package and a public function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Exports a run, see `cxr_tfds.export.pack.export_run`."""
        from .pack import export_run

        return export_run(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
