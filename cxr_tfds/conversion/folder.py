"""Image folders: split/class/name.png and a table of all fields."""

from __future__ import annotations

from pathlib import Path

from cxr_tfds.conversion.stored import FILE_NAME, SPLIT, StoredDataset
from cxr_tfds.text import csv_line

TABLE = "labels.csv"


def write_folder(stored: StoredDataset, folder: Path, part_bytes: int) -> None:
    """Writes every image as one file, and labels.csv with a row for each.

    Args:
      stored: The dataset.
      folder: An empty folder.
      part_bytes: Not used.
    """
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as table:
        table.write(csv_line([FILE_NAME, SPLIT, *(column.name for column in stored.columns)]))
        for split in stored.dataset.shards:
            for example in stored.examples(split):
                path = folder / example.file_name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as image:
                    image.write(example.image)
                table.write(csv_line([example.file_name, split, *example.values.values()]))
