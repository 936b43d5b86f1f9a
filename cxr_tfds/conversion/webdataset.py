"""Tar files in the layout of WebDataset: the files of an image are adjacent and share a name."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from cxr_tfds.conversion.stored import SPLIT, StoredDataset
from cxr_tfds.text import to_json

_LABEL_NUMBER = "label_number"


def write_webdataset(stored: StoredDataset, folder: Path, part_bytes: int) -> None:
    """Writes each split to files named like train-000000.tar.

    Each image is KEY.png (or the suffix of the source file), KEY.cls with the class number, and
    KEY.json with all fields. KEY is the split and the number of the image, because WebDataset cuts
    names at their first dot.

    Args:
      stored: The dataset.
      folder: An empty folder.
      part_bytes: Size of a file before compression.
    """
    for split in stored.dataset.shards:
        for number, _, examples in stored.parts(split, part_bytes):
            with tarfile.open(folder / f"{split}-{number:06}.tar", "w") as tar:
                for example in examples:
                    key = f"{split}-{example.index:08}"
                    fields = {SPLIT: split, "file_name": example.file_name, **example.values}
                    _add(tar, key + example.suffix.lower(), example.image)
                    if stored.has_classes:
                        _add(tar, f"{key}.cls", b"%d" % example.values[_LABEL_NUMBER])
                    _add(tar, f"{key}.json", to_json(fields).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # without time and owner: the same dataset gives the same file
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
