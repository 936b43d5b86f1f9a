"""An image of a source before it is decoded."""

from __future__ import annotations

from typing import NamedTuple

from cxr_tfds.sources.paths import SourcePath


class SourceImage(NamedTuple):
    """One image file and what its source says about it.

    Attributes:
      path: The file, on disk or in a zip.
      split: The source's own split: train, validation or test.
      label: Name of the class.
      image_id: Unique in the dataset, such as `train/NORMAL/a.jpeg`, in the dataset's spelling of
        split and class. It contains no local path, so all copies of a source give the same ids.
      finding: Name of the finding, or None if the source does not state it.
      patient_id: The patient, or "" if unknown.
    """

    path: SourcePath
    split: str
    label: str
    image_id: str
    finding: str | None = None
    patient_id: str = ""
