"""The description of a built dataset, from the JSON files that TFDS writes next to the shards.

Loads neither TFDS nor TensorFlow: a missing or incomplete dataset is reported at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple


class Split(NamedTuple):
    """The shards of a split."""

    paths: list[str]
    sizes: list[int]  # examples in each shard
    bytes: int  # of all examples, without what TFRecord adds


class Description(NamedTuple):
    """What TFDS stores about a dataset."""

    splits: dict[str, Split]
    image_shape: Any  # (S, S, C), or () for source files
    labels: tuple[str, ...]
    findings: tuple[str, ...]
    metadata: dict[str, Any]


def read_description(folder: Path) -> Description:
    """Reads the description of the dataset in `folder`, the folder of a version.

    Raises:
      OSError: A file is missing or cannot be read.
      ValueError: A file is not valid JSON.
      LookupError: A file lacks an entry.
    """
    info = _read_json(folder / "dataset_info.json")
    features = _read_json(folder / "features.json")["featuresDict"]["features"]
    dimensions = features["image"]["tensor"]["shape"].get("dimensions", [])
    return Description(
        splits={split["name"]: _read_split(folder, info, split) for split in info["splits"]},
        image_shape=tuple(map(int, dimensions)),
        labels=_read_names(folder, "label"),
        findings=_read_names(folder, "finding") if "finding" in features else (),
        metadata=_read_json(folder / "metadata.json"),
    )


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_names(folder: Path, feature: str) -> tuple[str, ...]:
    lines = (folder / f"{feature}.labels.txt").read_text(encoding="utf-8").split("\n")
    return tuple(line.strip() for line in lines if line.strip())


def _read_split(folder: Path, info: dict[str, Any], split: dict[str, Any]) -> Split:
    sizes = [int(size) for size in split.get("shardLengths", [])]
    paths = [
        split["filepathTemplate"].format(
            DATASET=info["name"],
            SPLIT=split["name"],
            FILEFORMAT=info["fileFormat"],
            SHARD_X_OF_Y=f"{number:05}-of-{len(sizes):05}",
        )
        for number in range(len(sizes))
    ]
    return Split([str(folder / path) for path in paths], sizes, int(split.get("numBytes", 0)))
