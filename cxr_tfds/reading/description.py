"""The description of a built dataset, from the JSON files that TFDS writes next to the shards.

Loads neither TFDS nor TensorFlow: a missing or incomplete dataset is reported at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.reading.fingerprint import Fingerprint, check_fingerprint, describe_settings
from cxr_tfds.reading.tfds_files import (
    DatasetInfo,
    SplitInfo,
    check_described,
    read_features,
    read_info,
    read_metadata,
    read_names,
)

RECORD_BYTES = 16  # the length and checksums of a TFRecord, without its content


class Split(NamedTuple):
    """The shards of a split."""

    paths: list[str]
    sizes: list[int]  # examples in each shard
    bytes: int  # of all examples, without what TFRecord adds

    def check_files(self, name: str) -> None:
        """Raises FileNotFoundError if a shard is missing, and InputError if one was cut."""
        found = sum(Path(path).stat().st_size for path in self.paths)
        expected = self.bytes + RECORD_BYTES * sum(self.sizes)
        if found != expected:
            raise InputError(
                f"Incomplete copy: the shards of {name} have {found:,} bytes; expected "
                f"{expected:,}."
            )


class Description(NamedTuple):
    """What TFDS stores about a dataset."""

    splits: dict[str, Split]
    image_shape: tuple[int, int, int] | tuple[()]  # (S, S, C), or () for source files
    labels: tuple[str, ...]
    findings: tuple[str, ...]
    metadata: dict[str, Any]
    recorded: Fingerprint | None  # None if an earlier version built the dataset


def read_description(folder: Path) -> Description:
    """Reads the description of the dataset in `folder`, the folder of a version, and checks it.

    Raises:
      OSError: A file is missing or cannot be read.
      InputError: A file is corrupt or does not fit its schema, a shard was cut, or the description
        was changed after the build.
    """
    info, features = read_info(folder), read_features(folder)
    shape, metadata = features.image_shape, read_metadata(folder, info)
    splits = {split["name"]: _read_split(folder, info, split) for split in info["splits"]}
    check_described(folder, [path for split in splits.values() for path in split.paths])
    labels, findings = (read_names(folder, name, n) for name, n in features.classes.items())
    images = {name: sum(split.sizes) for name, split in splits.items()}
    settings = describe_settings(labels, findings, shape, metadata)
    recorded = check_fingerprint(folder, images, settings, metadata)
    for name, split in splits.items():
        split.check_files(name)
    return Description(splits, shape, labels, findings, metadata, recorded)


def _read_split(folder: Path, info: DatasetInfo, split: SplitInfo) -> Split:
    sizes = [int(size) for size in split.get("shardLengths", ())]
    stem = f"{info['name']}-{split['name']}.{info['fileFormat']}"
    paths = [str(folder / f"{stem}-{number:05}-of-{len(sizes):05}") for number in range(len(sizes))]
    return Split(paths, sizes, int(split.get("numBytes", 0)))
