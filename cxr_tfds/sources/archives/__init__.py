"""Reads zips, tars and npz files without extracting them."""

from cxr_tfds.sources.archives.path import ArchivePath, SourcePath

__all__ = ["ArchivePath", "SourcePath"]
