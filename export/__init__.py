"""From a run folder to a verified `.tflite`; `cxr_tfds.export(...)` exports a run.

Importing the package loads no TensorFlow.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A module that can be called.

    `cxr_tfds.export` names this package and is a function of the public API. Importing any of its
    modules sets the attribute to the package, so the package itself is the function. See
    https://docs.python.org/3/reference/datamodel.html#customizing-module-attribute-access.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Exports a run, see `cxr_tfds.export.pack.export_run`."""
        from .pack import export_run

        return export_run(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
