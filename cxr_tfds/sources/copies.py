"""Compares folders that look like copies of a source with it."""

from __future__ import annotations

from collections.abc import Sequence

from cxr_tfds.errors import InputError
from cxr_tfds.sources.archives import SourcePath
from cxr_tfds.sources.image import SourceImage
from cxr_tfds.sources.masks import FileFilter
from cxr_tfds.sources.paths import NEW_ROW, join_names
from cxr_tfds.sources.walking import content_key, walk_files

COPIES = "folders that repeat the source"


def check_copy(
    root: SourcePath,
    images: Sequence[SourceImage],
    copy: SourcePath,
    copied: Sequence[SourceImage],
    files: FileFilter,
) -> None:
    """Leaves out a copy; raises InputError if it has an image that `images` has not.

    Args:
      root: The folder of `images`.
      images: The images that are read.
      copy: The folder that looks like a copy.
      copied: The images in its class folders.
      files: Decides which files are images.
    """
    keys = {image.image_id: content_key(image.path) for image in images}
    equal = {
        str(image.path) for image in copied if keys.get(image.image_id) == content_key(image.path)
    }
    differing = [
        path
        for inner_path, path in walk_files(copy, nested=True, source=files.source)
        if files.explain(inner_path) is None and str(path) not in equal
    ]
    files.leave_out(COPIES, f"{copy.name}/")
    if differing:
        raise InputError(
            f"{copy} looks like a copy of {root}, but {len(differing)} of its images are missing "
            f"there or differ:\n  {join_names(differing, NEW_ROW)}\n"
            "Remove one of the two, or give its path."
        )
