"""ArrayRecord files that TFDS reads in random order as a data source."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordWriter

from cxr_tfds.conversion.stored import StoredDataset
from cxr_tfds.text import to_json

_INFO = "dataset_info.json"
# What TFDS needs to read a dataset without its builder, except the examples and _INFO.
_DESCRIPTIONS = ("features.json", "metadata.json", "*.labels.txt")


def write_arrayrecord(stored: StoredDataset, folder: Path, part_bytes: int) -> None:
    """Writes each shard as an ArrayRecord file, with the description that TFDS reads.

    `tfds.builder_from_directory(folder).as_data_source("train")` opens the result. The records are
    the serialized tf.train.Example of the dataset, unchanged.

    Args:
      stored: The dataset.
      folder: An empty folder.
      part_bytes: Not used: the shards keep their sizes.
    """
    for split, shards in stored.dataset.shards.items():
        for number, shard in enumerate(shards):
            name = Path(shard).name.replace(".tfrecord-", ".array_record-")
            # One record a group, as TFDS writes them: a group is read and unpacked at once.
            writer = ArrayRecordWriter(str(folder / name), "group_size:1")
            for record in stored.serialized(split, number):
                writer.write(record)
            writer.close()
    for pattern in _DESCRIPTIONS:
        for path in stored.folder.glob(pattern):
            shutil.copyfile(path, folder / path.name)
    info = json.loads((stored.folder / _INFO).read_text(encoding="utf-8"))
    info["fileFormat"] = "array_record"
    (folder / _INFO).write_text(to_json(info, indent=2) + "\n", encoding="utf-8")
