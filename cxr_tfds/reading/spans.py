"""Images read by number straight from the shards, without holding any in memory.

An image is one stretch of bytes in its shard. Once all positions are known, a batch costs one read
an image, straight into the batch: no parsing, no shuffle buffer, and every order is exact.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr_tfds.reading.records import parse_batch, shard_reader

# Of a TFRecord: length and its checksum, checksum of the content. See
# https://www.tensorflow.org/tutorials/load_data/tfrecord.
_HEADER_BYTES, _FOOTER_BYTES = 12, 4
_BATCH = 64


class Spans(NamedTuple):
    """Positions of the stored images of a split: shard number, first byte, length; int64 (N,)."""

    shard: np.ndarray
    start: np.ndarray
    length: np.ndarray


def find_images(shards: Sequence[str], label: str = "label") -> tuple[Spans, np.ndarray]:
    """Finds the images of a split; reads every record once and verifies its checksums.

    Returns:
      The positions of the images and their values of the field `label`, int64 (N,) or (N, K).

    Raises:
      tf.errors.DataLossError: A record is corrupt.
    """
    rows: list[tuple[int, int, int]] = []
    labels: list[np.ndarray] = []
    for number, path in enumerate(shards):
        position = 0
        for records in shard_reader(path).batch(_BATCH).as_numpy_iterator():
            parsed = parse_batch(records, ["image", label])
            labels.append(parsed[label].numpy())
            for record, image in zip(records, parsed["image"].numpy(), strict=True):
                start = position + _HEADER_BYTES + _index(record, image)
                rows.append((number, start, len(image)))
                position += _HEADER_BYTES + len(record) + _FOOTER_BYTES
    columns = np.array(rows, np.int64).reshape(-1, 3).T
    values = np.concatenate(labels) if labels else np.empty(0, np.int64)
    return Spans(*np.ascontiguousarray(columns)), values


def _index(record: bytes, image: bytes) -> int:
    """Returns where `image` occurs first in `record`.

    TensorFlow reports no offsets. Reading the same bytes from anywhere gives the image, so the
    first occurrence is right. `bytes.index` does work for every byte it searches for, so it gets
    the first ones only.
    """
    start = 0
    while not record.startswith(image, start):
        start = record.index(image[:32], start + 1)
    return start


def pixel_reader(
    shards: Sequence[str], spans: Spans, shape: tuple[int, int, int]
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that reads raw images by number, int (B,), as uint8 (B, S, S, C)."""
    read = _reader(shards, spans)

    def read_pixels(index: np.ndarray) -> np.ndarray:
        images = np.empty((len(index), *shape), np.uint8)
        read(index, images)
        return images

    return read_pixels


def file_reader(shards: Sequence[str], spans: Spans) -> Callable[[np.ndarray], list[bytes]]:
    """Returns a function that reads stored source files by number, int (B,)."""
    read = _reader(shards, spans)

    def read_files(index: np.ndarray) -> list[bytes]:
        files = [bytearray(spans.length[i]) for i in index]
        read(index, files)
        return [bytes(file) for file in files]

    return read_files


def _reader(shards: Sequence[str], spans: Spans) -> Callable[[np.ndarray, Iterable[Any]], None]:
    """Returns a function that fills a buffer with each image; its shards close with it."""
    files = [os.open(path, os.O_RDONLY) for path in shards]

    def read(index: np.ndarray, buffers: Iterable[Any]) -> None:
        for i, buffer in zip(index, buffers, strict=True):
            number, start = spans.shard[i], spans.start[i]
            if hasattr(os, "preadv"):
                # Releases the GIL, so several batches are read at once.
                count = os.preadv(files[number], [buffer], start)
            else:  # not on Windows; opening the file anew keeps threads apart
                with Path(shards[number]).open("rb", buffering=0) as stream:
                    stream.seek(start)
                    count = stream.readinto(buffer)
            if count != spans.length[i]:
                raise OSError(f"{shards[number]} ended early: it was changed while it was read")

    for file in files:
        weakref.finalize(read, os.close, file)
    return read
