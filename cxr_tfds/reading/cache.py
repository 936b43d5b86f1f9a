"""Where batches are gathered from by index: memory, a file of fitted images, or the records themselves."""

from __future__ import annotations

import io
import logging
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from cxr_tfds.errors import InputError
from cxr_tfds.files import complete_file
from cxr_tfds.memory import free_memory
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.in_order import fit_files, name_corrupt_shard, numpy_batches
from cxr_tfds.reading.spans import Spans, file_reader, find_images, pixel_reader

# A cached split may take this part of the memory that is free when training starts.
_RAM_FRACTION = 0.25
_ALIGNMENT = 64
_CHECKSUM_BYTES = (
    4  # at the end of a file of cached images: the CRC-32 of all before, little-endian
)
_CHECKED = 0x2144DF1C  # the CRC-32 of anything followed by its own
_CHUNK_BYTES = 1 << 20

Gather = Callable[[tf.Tensor], tf.Tensor]  # indices int (B,) to images uint8 (B, S, S, C)
Source = tuple[Gather, tf.Tensor]  # and the labels of the split, int64 (N,)


def fits_in_memory(dataset: BuiltDataset, split: str) -> bool:
    """Whether the split takes at most a quarter of the free memory."""
    return _bytes(dataset, split) <= _RAM_FRACTION * free_memory()


def in_memory(dataset: BuiltDataset, split: str) -> Source:
    """Reads the split into one tensor.

    Raises:
      InputError: a shard is damaged, or there is no memory for it.
    """
    images = _aligned((dataset.sizes[split], *dataset.shape))
    labels = np.empty(len(images), np.int64)
    _fill(images, labels, dataset, split)
    # Takes over the memory; tf.constant would hold the split a second time.
    tensor = tf.experimental.dlpack.from_dlpack(images.__dlpack__())
    return lambda index: tf.gather(tensor, index), tf.constant(labels)


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Empty uint8 memory that starts at a multiple of 64 bytes, as TensorFlow's kernels expect."""
    size = int(np.prod(shape))
    try:
        memory = np.empty(size + _ALIGNMENT, np.uint8)
    except MemoryError as err:
        raise InputError(
            f"the images of a split take {size / 1e9:.1f} GB of memory, more than is free. Give --cache none or file."
        ) from err
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].reshape(shape)


def in_file(dataset: BuiltDataset, split: str, folder: Path | None = None) -> Source:
    """Reads from a `.npy` file of the split, written first where it does not stand whole yet.

    Args:
      dataset: a built dataset.
      split: which split.
      folder: where the file goes; beside the shards if not given.

    Raises:
      InputError: a shard is damaged, or the file cannot be written, such as for want of room.
    """
    folder = folder or Path(dataset.shards[split][0]).parent / "cache"
    shape = "x".join(map(str, dataset.shape))
    path = folder / f"{dataset.fingerprint[:16]}-{split}-{shape}-{dataset.fit}.npy"
    size = _bytes(dataset, split)
    try:
        if not _is_whole(path, size):
            folder.mkdir(parents=True, exist_ok=True)
            if size > (free := shutil.disk_usage(folder).free):
                raise _no_cache(folder, f"has {free / 1e9:.1f} GB free", split, size)
            with complete_file(path) as beside:
                _write(beside, dataset, split)
    except OSError as err:
        raise _no_cache(folder, f"cannot be used ({err.strerror})", split, size) from err
    image = int(np.prod(dataset.shape))
    numbers = np.arange(dataset.sizes[split])
    start = path.stat().st_size - _CHECKSUM_BYTES - size + image * numbers
    spans = Spans(np.zeros_like(numbers), start, np.full_like(numbers, image))
    return _numpy_gather(pixel_reader([str(path)], spans, dataset.shape), dataset), labels_of(
        dataset, split
    )


def _no_cache(folder: Path, why: str, split: str, size: int) -> InputError:
    return InputError(
        f"{folder} {why}; the cache of {split} takes {size / 1e9:.1f} GB. "
        "Give another folder with --cache-dir, or --cache none."
    )


def _is_whole(path: Path, size: int) -> bool:
    """Whether `path` holds images of `size` bytes as `_write` left them; says so where it holds anything else.

    It is read through once for that, as the shards are before training; the pages then wait in the system's cache.
    """
    if not path.is_file():
        return False
    checksum = 0
    if path.stat().st_size >= size + _CHECKSUM_BYTES:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                checksum = zlib.crc32(chunk, checksum)
    if checksum != _CHECKED:
        logging.getLogger(__name__).warning(
            "%s is not as it was written, and is written again.", path
        )
    return checksum == _CHECKED


def _write(path: Path, dataset: BuiltDataset, split: str) -> None:
    # Written, not mapped into memory: there a disk that becomes full ends the process.
    checksum = 0
    with path.open("wb") as file:
        for part in _parts(dataset, split):
            checksum = zlib.crc32(part, checksum)
            file.write(part)
        file.write(checksum.to_bytes(_CHECKSUM_BYTES, "little"))


def _parts(dataset: BuiltDataset, split: str) -> Iterator[bytes | memoryview]:
    """The header of a `.npy` file, and the images in batches."""
    header = io.BytesIO()
    shape = (dataset.sizes[split], *dataset.shape)
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    yield header.getvalue()
    for batch in numpy_batches(dataset, split, fields=("image",)):
        yield batch["image"].data


def in_records(dataset: BuiltDataset, split: str) -> Source:
    """Reads each image from its shard when it is asked for; holds none.

    Raises:
      InputError: a shard is damaged.
    """
    shards = dataset.shards[split]
    with name_corrupt_shard(dataset):
        spans, labels = find_images(shards, dataset.target)
        if len(labels) != dataset.sizes[split]:
            raise tf.errors.DataLossError(None, None, f"{len(labels)} records")
    if dataset.encoded:
        stored = file_reader(shards, spans)
        return _numpy_gather(lambda index: fit_files(stored(index), dataset), dataset), tf.constant(
            labels
        )
    return _numpy_gather(pixel_reader(shards, spans, dataset.shape), dataset), tf.constant(labels)


def _numpy_gather(read: Callable[[np.ndarray], np.ndarray], dataset: BuiltDataset) -> Gather:
    def gather(index: tf.Tensor) -> tf.Tensor:
        images = tf.numpy_function(read, [index], tf.uint8, stateful=False)
        return tf.ensure_shape(images, (None, *dataset.shape))

    return gather


def labels_of(dataset: BuiltDataset, split: str) -> tf.Tensor:
    """int64 (N,), in the order of the records."""
    return tf.constant(
        np.concatenate(
            [batch["label"] for batch in numpy_batches(dataset, split, fields=("label",))]
        )
    )


def _fill(images: np.ndarray, labels: np.ndarray, dataset: BuiltDataset, split: str) -> None:
    start = 0
    for batch in numpy_batches(dataset, split):
        stop = start + len(batch["label"])
        images[start:stop], labels[start:stop] = batch["image"], batch["label"]
        start = stop


def _bytes(dataset: BuiltDataset, split: str) -> int:
    return int(np.prod(dataset.shape)) * dataset.sizes[split]
