"""The one reader of sources: what is looked at is what is built and evaluated."""

from __future__ import annotations

from pathlib import Path

from cxr_tfds.sources.classes import list_folder_images
from cxr_tfds.sources.image import Listing
from cxr_tfds.sources.settings import ReaderSettings


def read_source(source: Path, settings: ReaderSettings) -> Listing:
    """Returns the labelled images of a folder or archive, without decoding them.

    Raises:
      MissingData: There are no labelled images.
      InputError: The source or a setting cannot be used.
    """
    if settings.table is None:
        return list_folder_images(source, settings)
    from cxr_tfds.sources.tables.reader import list_table_images

    return list_table_images(source, settings)
