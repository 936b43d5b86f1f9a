"""Sources of radiographs: folders and zips, which of their files are images, what split and class they stand in.

Nothing is decoded here. Works without TensorFlow, so a source can be looked at before it is built.
"""

from cxr_tfds.sources.image import SourceImage
from cxr_tfds.sources.layout import SourceFile, scan_splits
from cxr_tfds.sources.opening import open_source
from cxr_tfds.sources.places import Place, check_links, is_junk, search

__all__ = [
    "Place",
    "SourceFile",
    "SourceImage",
    "check_links",
    "is_junk",
    "open_source",
    "scan_splits",
    "search",
]
