"""Parquet files that `datasets.load_dataset("parquet", …)` of Hugging Face shows as images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cxr_tfds.conversion.stored import Column, Example, StoredDataset
from cxr_tfds.text import to_json

# A reader holds one row group in memory, and a Hugging Face viewer fetches at least one.
ROW_GROUP_ROWS = 500
ROW_GROUP_BYTES = 16 << 20  # of images
_IMAGE = "image"
_IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write_parquet(stored: StoredDataset, folder: Path, part_bytes: int) -> None:
    """Writes each split to files named like train-00000-of-00002.parquet.

    The column `image` is a struct of the bytes of an image file and its name. The schema also
    holds the types that Hugging Face's `datasets` gives to the columns.

    Args:
      stored: The dataset.
      folder: An empty folder.
      part_bytes: Size of a file before compression.
    """
    schema = make_schema(stored.columns)
    for split in stored.dataset.shards:
        for number, count, examples in stored.parts(split, part_bytes):
            path = folder / f"{split}-{number:05}-of-{count:05}.parquet"
            # Images are compressed already.
            with pq.ParquetWriter(path, schema, use_dictionary=_text_columns(stored)) as writer:
                for rows in _row_groups(examples):
                    writer.write_batch(_make_batch(rows, schema))


def make_schema(columns: Iterable[Column]) -> pa.Schema:
    """Returns the schema of a table of examples."""
    fields = [(_IMAGE, _IMAGE_TYPE)]
    features: dict[str, dict[str, Any]] = {_IMAGE: {"_type": "Image"}}
    for column in columns:
        dtype = column.dtype or "string"
        fields.append((column.name, pa.type_for_alias(dtype)))
        features[column.name] = (
            {"names": list(column.names), "_type": "ClassLabel"}
            if column.kind == "number"
            else {"dtype": dtype, "_type": "Value"}
        )
    return pa.schema(fields, {"huggingface": to_json({"info": {"features": features}})})


def _text_columns(stored: StoredDataset) -> list[str]:
    return [column.name for column in stored.columns if not column.dtype]


def _row_groups(examples: Iterable[Example]) -> Iterator[list[Example]]:
    rows: list[Example] = []
    size = 0
    for example in examples:
        rows.append(example)
        size += len(example.image)
        if len(rows) >= ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _make_batch(rows: list[Example], schema: pa.Schema) -> pa.RecordBatch:
    records: list[dict[str, Any]] = [
        {_IMAGE: {"bytes": row.image, "path": row.file_name}, **row.values} for row in rows
    ]
    return pa.RecordBatch.from_pylist(records, schema)
