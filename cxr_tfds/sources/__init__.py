"""Finds the radiographs of a source: which files are images, and their split and class.

A source is a folder, an archive or a table of images. Nothing here decodes an image or loads
TensorFlow, so a source can be inspected before it is built. The names below are loaded on first
use: the settings of a reader need no Pillow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cxr_tfds.sources.archives import SourcePath
    from cxr_tfds.sources.image import Listing, SourceImage
    from cxr_tfds.sources.layout import scan_splits
    from cxr_tfds.sources.opening import find_root, open_source
    from cxr_tfds.sources.paths import check_links, is_junk
    from cxr_tfds.sources.reader import read_source
    from cxr_tfds.sources.settings import ReaderSettings

__all__ = [
    "Listing",
    "ReaderSettings",
    "SourceImage",
    "SourcePath",
    "check_links",
    "find_root",
    "is_junk",
    "open_source",
    "read_source",
    "scan_splits",
]

_MODULES = {
    "Listing": "image",
    "ReaderSettings": "settings",
    "SourceImage": "image",
    "SourcePath": "archives",
    "check_links": "paths",
    "find_root": "opening",
    "is_junk": "paths",
    "open_source": "opening",
    "read_source": "reader",
    "scan_splits": "layout",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
