"""Where training batches are gathered from: memory, a file of fitted images, or the shards."""

from __future__ import annotations

import io
import logging
import math
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from cxr_tfds.errors import InputError
from cxr_tfds.files import complete_file
from cxr_tfds.memory import free_memory
from cxr_tfds.os_errors import find_os_error
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.sequential import (
    field_batches,
    fit_files,
    image_function,
    name_corrupt_shard,
    read_columns,
)
from cxr_tfds.reading.spans import Spans, file_reader, find_images, pixel_reader

# A cached split may take this part of the memory that is free when training starts.
_RAM_FRACTION = 0.25
_ALIGNMENT = 64  # bytes; TensorFlow's kernels expect it
_CHECKSUM_BYTES = 4  # CRC-32 of all bytes before it, little-endian, at the end of a cache file
_VALID_CRC = 0x2144DF1C  # the CRC-32 of any bytes followed by their own CRC-32
_CHUNK_BYTES = 1 << 20

Gather = Callable[[tf.Tensor], tf.Tensor]  # indices int (B,) to images uint8 (B, S, S, C)
Source = tuple[Gather, tf.Tensor]  # and the labels of the split, int64 (N,) or (N, K)


def fits_in_memory(dataset: BuiltDataset, split: str) -> bool:
    """Returns whether the split takes at most a quarter of the free memory."""
    return _image_bytes(dataset, split) <= _RAM_FRACTION * free_memory()


def in_memory(dataset: BuiltDataset, split: str) -> Source:
    """Reads the split into one tensor.

    Raises:
      InputError: A shard is corrupt, or the split does not fit in memory.
    """
    images = _allocate((dataset.sizes[split], *dataset.shape))
    labels: list[np.ndarray] = []
    start = 0
    for batch in _read(dataset, split, "image", "label"):
        stop = start + len(batch["label"])
        images[start:stop] = batch["image"]
        labels.append(batch["label"])
        start = stop
    # Takes over the memory; tf.constant would copy it.
    tensor = tf.experimental.dlpack.from_dlpack(images.__dlpack__())
    return lambda index: tf.gather(tensor, index), tf.constant(np.concatenate(labels))


def _read(dataset: BuiltDataset, split: str, *fields: str) -> Iterator[dict[str, np.ndarray]]:
    with name_corrupt_shard(dataset):
        yield from field_batches(dataset, split, fields).as_numpy_iterator()


def _allocate(shape: tuple[int, ...]) -> np.ndarray:
    """Returns uninitialized aligned uint8 memory."""
    size = math.prod(shape)
    try:
        memory = np.empty(size + _ALIGNMENT, np.uint8)
    except MemoryError as err:
        raise InputError(
            f"The images of a split take {size / 1e9:.1f} GB, more than the free memory. Use "
            "--cache none or --cache file."
        ) from err
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].reshape(shape)


def in_file(dataset: BuiltDataset, split: str, folder: Path | None = None) -> Source:
    """Reads from a `.npy` file of the split, and writes it first unless it exists and is valid.

    By default the file is in the folder `cache/` next to the shards.

    Raises:
      InputError: A shard is corrupt, or the file cannot be written, for example on a full disk.
    """
    folder = folder or Path(dataset.shards[split][0]).parent / "cache"
    shape = "x".join(map(str, dataset.shape))
    path = folder / f"{dataset.fingerprint[:16]}-{split}-{shape}-{dataset.fit}.npy"
    size = _image_bytes(dataset, split)
    try:
        if not _is_valid(path, size):
            folder.mkdir(parents=True, exist_ok=True)
            if size > (free := shutil.disk_usage(folder).free):
                raise _cache_error(folder, f"has {free / 1e9:.1f} GB free", split, size)
            with complete_file(path, size) as temporary:
                _write(temporary, dataset, split)
    except OSError as err:
        reason = find_os_error(err) or err
        raise _cache_error(folder, f"cannot be used ({reason.strerror})", split, size) from err
    length = math.prod(dataset.shape)
    numbers = np.arange(dataset.sizes[split])
    start = path.stat().st_size - _CHECKSUM_BYTES - size + length * numbers
    spans = Spans(np.zeros_like(numbers), start, np.full_like(numbers, length))
    read = pixel_reader([str(path)], spans, dataset.shape)
    labels = read_columns(dataset, split, "label")["label"]
    return image_function(read, dataset), tf.constant(labels)


def _cache_error(folder: Path, reason: str, split: str, size: int) -> InputError:
    return InputError(
        f"{folder} {reason}; the cache of {split} takes {size / 1e9:.1f} GB. Choose another folder "
        "with --cache-dir, or use --cache none."
    )


def _is_valid(path: Path, size: int) -> bool:
    """Returns whether `path` holds `size` bytes of images as written; logs if it is corrupt."""
    if not path.is_file():
        return False
    checksum = 0
    if path.stat().st_size >= size + _CHECKSUM_BYTES:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                checksum = zlib.crc32(chunk, checksum)
    if checksum != _VALID_CRC:
        logging.getLogger(__name__).warning("Cache file %s is corrupt; writing it again.", path)
    return checksum == _VALID_CRC


def _write(path: Path, dataset: BuiltDataset, split: str) -> None:
    header = io.BytesIO()
    shape = (dataset.sizes[split], *dataset.shape)
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    checksum = zlib.crc32(header.getvalue())
    # Not through a memory map: there a full disk kills the process.
    with path.open("wb") as file:
        file.write(header.getvalue())
        for batch in _read(dataset, split, "image"):
            checksum = zlib.crc32(batch["image"].data, checksum)
            file.write(batch["image"].data)
        file.write(checksum.to_bytes(_CHECKSUM_BYTES, "little"))


def in_records(dataset: BuiltDataset, split: str) -> Source:
    """Reads each image from its shard when a batch needs it.

    Raises:
      InputError: A shard is corrupt.
    """
    shards = dataset.shards[split]
    with name_corrupt_shard(dataset):
        spans, labels = find_images(shards, dataset.target)
        if len(labels) != dataset.sizes[split]:
            raise tf.errors.DataLossError(None, None, f"{len(labels)} records")
    if dataset.encoded:
        read = file_reader(shards, spans)
        gather = image_function(lambda index: fit_files(read(index), dataset), dataset)
    else:
        gather = image_function(pixel_reader(shards, spans, dataset.shape), dataset)
    return gather, tf.constant(labels)


def _image_bytes(dataset: BuiltDataset, split: str) -> int:
    return math.prod(dataset.shape) * dataset.sizes[split]
