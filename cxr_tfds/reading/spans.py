"""Images read straight from the shards by number, in any order, without holding any in memory.

An image is one stretch of bytes in its shard. Once it is known where each begins, a batch is one read
an image, straight into the batch: no parsing, no shuffle buffer, and every order is exact.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr_tfds.reading.records import parse_batch, shard_reader

_HEADER_BYTES, _FOOTER_BYTES = 12, 4  # of a TFRecord: length and its checksum, checksum of the data
_BATCH = 64


class Spans(NamedTuple):
    """Where the stored images of a split lie: shard number, first byte and number of bytes, int64 (N,)."""

    shard: np.ndarray
    start: np.ndarray
    length: np.ndarray


def find_images(shards: Sequence[str], label: str = "label") -> tuple[Spans, np.ndarray]:
    """Reads every record once, its checksums included.

    Args:
      shards: of a split.
      label: which field is the label.

    Returns:
      Where the images lie, and their labels, int64 (N,).

    Raises:
      tf.errors.DataLossError: a record is not as it was written.
    """
    rows: list[tuple[int, int, int]] = []
    labels = [np.empty(0, np.int64)]
    for number, path in enumerate(shards):
        position = 0
        for batch in shard_reader(path).batch(_BATCH).as_numpy_iterator():
            labels.append(parse_batch(batch, [label])[label].numpy())
            for record in batch:
                start, stop = image_bytes(record)
                rows.append((number, position + _HEADER_BYTES + start, stop - start))
                position += _HEADER_BYTES + len(record) + _FOOTER_BYTES
    columns = np.array(rows, np.int64).reshape(-1, 3).T
    return Spans(*np.ascontiguousarray(columns)), np.concatenate(labels)


def image_bytes(record: bytes) -> tuple[int, int]:
    """First byte of the value of feature `image` in a serialized `tf.train.Example`, and the one after its last.

    The features of an Example stand in any order. All that is walked over is a field with a length:
    Example.features, the entries of its map, and in an entry the key and Feature.bytes_list.value.
    See https://protobuf.dev/programming-guides/encoding.

    Raises:
      KeyError: the record has no feature `image`.
    """
    entry, end = _field(record, 0)
    while entry < end:
        start, stop = _field(record, entry)
        key, value = _field(record, start)
        if record[key:value] == b"image":
            for _ in range(3):  # Feature, BytesList, the bytes
                value, stop = _field(record, value)
            return value, stop
        entry = stop
    raise KeyError("image")


def _field(data: bytes, position: int) -> tuple[int, int]:
    """Where the content of the field at `position` begins and ends; its tag is one byte."""
    position += 1
    length = shift = 0
    while True:
        byte = data[position]
        position += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return position, position + length


def pixel_reader(
    shards: Sequence[str], spans: Spans, shape: tuple[int, int, int]
) -> Callable[[np.ndarray], np.ndarray]:
    """Reads raw images by number (B,) into uint8 (B, S, S, C)."""
    read = _reader(shards, spans)

    def pixels(index: np.ndarray) -> np.ndarray:
        images = np.empty((len(index), *shape), np.uint8)
        for image, i in zip(images, index, strict=True):
            read(i, image)
        return images

    return pixels


def file_reader(shards: Sequence[str], spans: Spans) -> Callable[[np.ndarray], list[bytes]]:
    """Reads stored source files by number (B,)."""
    read = _reader(shards, spans)

    def files(index: np.ndarray) -> list[bytes]:
        stored = [bytearray(spans.length[i]) for i in index]
        for data, i in zip(stored, index, strict=True):
            read(i, data)
        return [bytes(data) for data in stored]

    return files


def _reader(shards: Sequence[str], spans: Spans) -> Callable[[int, Any], None]:
    """Fills a buffer with image number i. Shards are opened once and closed with the reader."""
    files = [os.open(path, os.O_RDONLY) for path in shards] if hasattr(os, "preadv") else []

    def read(i: int, buffer: Any) -> None:
        number, start = spans.shard[i], spans.start[i]
        if files:
            count = os.preadv(
                files[number], [buffer], start
            )  # outside the GIL: two batches are read at once
        else:  # not on every system; a file of its own keeps threads apart
            with Path(shards[number]).open("rb", buffering=0) as file:
                file.seek(start)
                count = file.readinto(buffer)
        if count != spans.length[i]:
            raise OSError(f"{shards[number]} ended early: it was changed while it was read")

    weakref.finalize(read, _close, files)
    return read


def _close(files: Sequence[int]) -> None:
    for file in files:
        os.close(file)
