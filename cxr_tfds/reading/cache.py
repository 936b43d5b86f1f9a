"""Where training batches are gathered from: the shards, or a file of fitted images."""

from __future__ import annotations

import io
import logging
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cxr_tfds.errors import InputError
from cxr_tfds.files import complete_file
from cxr_tfds.os_errors import find_os_error
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.offsets import BatchMemory, find_offsets, map_images
from cxr_tfds.reading.records import digest_split
from cxr_tfds.reading.sequential import (
    field_batches,
    fit_files,
    image_function,
    name_corrupt_shard,
    read_columns,
)

_DISK_FRACTION = 0.25  # "auto" uses at most this part of the free disk space
_CHECKSUM_BYTES = 4  # CRC-32 of all bytes before it, little-endian, at the end of a cache file
_VALID_CRC = 0x2144DF1C  # the CRC-32 of any bytes followed by their own CRC-32
_CHUNK_BYTES = 1 << 20

Gather = Callable[[tf.Tensor], tf.Tensor]  # indices int (B,) to images uint8 (B, S, S, C)


class Source(NamedTuple):
    """Where the images of a split are gathered from.

    Attributes:
      gather: Returns images by number.
      labels: Of the split, int64 (N,) or (N, K).
      copies: Whether gathering only copies fitted images.
    """

    gather: Gather
    labels: tf.Tensor
    copies: bool


def open_source(dataset: BuiltDataset, split: str, cache: str, folder: Path | None) -> Source:
    """Opens a split as `BuiltDataset.train` describes.

    Raises:
      InputError: A shard is corrupt, or the cache cannot be written.
    """
    labels = tf.constant(read_columns(dataset, split, "label")["label"])  # verifies all checksums
    if not dataset.encoded:
        return Source(in_shards(dataset, split), labels, copies=True)
    folder = folder or dataset.folder / "cache"
    if cache == "auto":
        cache = "file" if _has_space(folder, _image_bytes(dataset, split)) else "none"
    if cache == "file":
        return Source(in_file(dataset, split, folder), labels, copies=True)
    return Source(in_shards(dataset, split), labels, copies=False)


def in_shards(dataset: BuiltDataset, split: str) -> Gather:
    """Reads from the shards; decodes source files."""
    paths, sizes = dataset.shards[split], dataset.shard_sizes[split]
    with name_corrupt_shard(dataset):
        offsets = find_offsets(paths, sizes, split, lambda: digest_split(paths, sizes).offsets)
    read = map_images(paths, sizes, offsets)
    if dataset.encoded:
        return image_function(
            lambda index: fit_files((file.tobytes() for file in read(index)), dataset), dataset
        )
    return _pixel_function(read, dataset)


def _pixel_function(
    read: Callable[[np.ndarray], Iterator[np.ndarray]], dataset: BuiltDataset
) -> Gather:
    memory = BatchMemory()
    return image_function(
        lambda index: memory.copy(read(index), (len(index), *dataset.shape)), dataset
    )


def _has_space(folder: Path, size: int) -> bool:
    """Returns whether a file of `size` bytes can be written and takes little of the free space."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return (
        os.access(existing, os.W_OK) and size <= _DISK_FRACTION * shutil.disk_usage(existing).free
    )


def in_file(dataset: BuiltDataset, split: str, folder: Path) -> Gather:
    """Reads from a `.npy` file of the split, and writes it first unless it exists and is valid.

    Raises:
      InputError: A shard is corrupt, or the file cannot be written, for example on a full disk.
    """
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
        count, length = dataset.sizes[split], math.prod(dataset.shape)
        first = path.stat().st_size - _CHECKSUM_BYTES - size
        offsets = np.stack([first + length * np.arange(count), np.full(count, length)], 1)
        return _pixel_function(map_images([str(path)], [count], offsets), dataset)
    except OSError as err:
        reason = find_os_error(err) or err
        raise _cache_error(folder, f"cannot be used ({reason.strerror})", split, size) from err


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
    with path.open("wb") as file, name_corrupt_shard(dataset):
        file.write(header.getvalue())
        for batch in field_batches(dataset, split, ("image",)).as_numpy_iterator():
            checksum = zlib.crc32(batch["image"].data, checksum)
            file.write(batch["image"].data)
        file.write(checksum.to_bytes(_CHECKSUM_BYTES, "little"))


def _image_bytes(dataset: BuiltDataset, split: str) -> int:
    return math.prod(dataset.shape) * dataset.sizes[split]
