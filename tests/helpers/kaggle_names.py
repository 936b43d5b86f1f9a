"""The file names of the Kaggle pneumonia set, without its images."""

from __future__ import annotations

import gzip
from pathlib import Path

from cxr_tfds.sources import SourceImage
from cxr_tfds.sources.kermany import parse_names

_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def read_kaggle_names() -> list[SourceImage]:
    """Returns the listed images with patient and finding; their paths do not exist."""
    data = (Path(__file__).parents[1] / "data" / "kaggle_names.txt.gz").read_bytes()
    images = []
    for line in gzip.decompress(data).decode().splitlines():
        folder, label, name = line.split("/")
        split = _SPLITS[folder]
        images.append(SourceImage(Path(line), split, label, f"{split}/{label}/{name}"))
    return parse_names(images)
