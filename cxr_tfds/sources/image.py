"""What a source says of an image before it is decoded."""

from __future__ import annotations

from typing import NamedTuple

from cxr_tfds.sources.places import Place


class SourceImage(NamedTuple):
    """One image to build, as its source describes it."""

    path: Place  # on disk or in a zip
    split: str  # of the source: train, validation or test
    label: str
    finding: str | None  # None: the source does not tell
    image_id: str  # unique and stable, without a local path
    patient_id: str  # "" where the source does not tell
