"""An image of a source before it is decoded."""

from __future__ import annotations

from typing import NamedTuple

from cxr_tfds.sources.archive import SourcePath


class SourceImage(NamedTuple):
    """One image file, with the split, class and patient that its source states."""

    path: SourcePath
    split: str  # the source's own: train, validation or test
    label: str  # name of the class
    image_id: str  # such as train/NORMAL/a.jpeg: unique, and the same for all copies of a source
    finding: str | None = None  # None if the source does not state it
    patient_id: str = ""  # "" if unknown
