"""Finds the radiographs of a source: which files are images, and their split and class.

A source is a folder, an archive or a table of images. Nothing here decodes an image or loads
TensorFlow, so a source can be inspected before it is built.
"""

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
