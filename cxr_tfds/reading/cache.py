"""Where batches are gathered from by index: memory, a file of fitted images, or the records themselves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.in_order import damage_named, fit_files, numpy_batches
from cxr_tfds.reading.spans import Spans, file_reader, find_images, pixel_reader
from cxr_tfds.run_folder import whole_file

# A cached split may take this part of the memory that is free when training starts.
_RAM_FRACTION = 0.25
_ALIGNMENT = 64

Gather = Callable[[tf.Tensor], tf.Tensor]  # indices int (B,) to images uint8 (B, S, S, C)


def fits_in_memory(dataset: BuiltDataset, split: str) -> bool:
    """Whether the split takes at most a quarter of the free memory."""
    return _bytes(dataset, split) < _RAM_FRACTION * _free_memory()


def in_memory(dataset: BuiltDataset, split: str) -> Gather:
    """Reads the split into one tensor.

    Raises:
      InputError: a shard is damaged, or there is no memory for it.
    """
    images = _aligned((dataset.sizes[split], *dataset.shape))
    _fill(images, dataset, split)
    # Takes over the memory; tf.constant would hold the split a second time.
    tensor = tf.experimental.dlpack.from_dlpack(images.__dlpack__())
    return lambda index: tf.gather(tensor, index)


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


def in_file(dataset: BuiltDataset, split: str, folder: Path | None = None) -> Gather:
    """Reads from a `.npy` file of the split, written first where it does not stand yet.

    Args:
      dataset: a built dataset.
      split: which split.
      folder: where the file goes; beside the shards if not given.

    Raises:
      InputError: a shard is damaged, or the disk has no room for the file.
    """
    folder = folder or Path(dataset.shards[split][0]).parent / "cache"
    shape = "x".join(map(str, dataset.shape))
    path = folder / f"{dataset.fingerprint[:16]}-{split}-{shape}-{dataset.fit}.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        needed, free = _bytes(dataset, split), shutil.disk_usage(folder).free
        if needed > free:
            raise InputError(
                f"{folder} has {free / 1e9:.1f} GB free; the cache of {split} takes {needed / 1e9:.1f} GB. "
                "Give another folder with --cache-dir, or --cache none."
            )
        with whole_file(path) as beside:
            images = np.lib.format.open_memmap(beside, "w+", np.uint8, (dataset.sizes[split], *dataset.shape))
            _fill(images, dataset, split)
            images.flush()
    images = int(np.prod(dataset.shape))
    numbers = np.arange(dataset.sizes[split])
    offset = np.load(path, mmap_mode="r").offset
    spans = Spans(np.zeros_like(numbers), offset + images * numbers, np.full_like(numbers, images))
    return _numpy_gather(pixel_reader([str(path)], spans, dataset.shape), dataset)


def in_records(dataset: BuiltDataset, split: str) -> Gather:
    """Reads each image from its shard when it is asked for; holds none.

    Raises:
      InputError: a shard is damaged.
    """
    shards = dataset.shards[split]
    with damage_named(dataset):
        spans = find_images(shards)
    if dataset.encoded:
        stored = file_reader(shards, spans)
        return _numpy_gather(lambda index: fit_files(stored(index), dataset), dataset)
    return _numpy_gather(pixel_reader(shards, spans, dataset.shape), dataset)


def _numpy_gather(read: Callable[[np.ndarray], np.ndarray], dataset: BuiltDataset) -> Gather:
    def gather(index: tf.Tensor) -> tf.Tensor:
        images = tf.numpy_function(read, [index], tf.uint8, stateful=False)
        return tf.ensure_shape(images, (None, *dataset.shape))

    return gather


def labels_of(dataset: BuiltDataset, split: str) -> tf.Tensor:
    """int64 (N,), in the order of the records."""
    batches = numpy_batches(dataset, split, batch_size=1024, fields=("label",))
    return tf.constant(np.concatenate([batch["label"] for batch in batches]))


def _fill(images: np.ndarray, dataset: BuiltDataset, split: str) -> None:
    start = 0
    for batch in numpy_batches(dataset, split, fields=("image",)):
        stop = start + len(batch["image"])
        images[start:stop] = batch["image"]
        start = stop


def _bytes(dataset: BuiltDataset, split: str) -> int:
    return int(np.prod(dataset.shape)) * dataset.sizes[split]


def _free_memory() -> int:
    """Bytes available to new processes without swapping; half the memory where the system does not say."""
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as lines:
            return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
