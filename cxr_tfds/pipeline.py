"""Records to batches: plain `tf.data.Dataset`s for training and for measuring."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cxr_tfds.datasets import BuiltDataset
from cxr_tfds.errors import InputError
from cxr_tfds.records import parse_batch, shard_reader
from cxr_tfds.settings import CACHES

# A cached split may take this part of the memory that is free when training starts.
_RAM_FRACTION = 0.25
# Uncached, examples are shuffled within this many serialized records (200 MB at 224 x 224).
SHUFFLE_BUFFER = 4096
_SHARDS_AT_ONCE = 8

_Epoch = Callable[[tf.Tensor], tf.data.Dataset]  # the number of an epoch, int64, to its batches


class Examples(NamedTuple):
    """A split in memory; `patient_ids` are "" where unknown."""

    images: np.ndarray  # uint8 (N, S, S, C)
    labels: np.ndarray  # int64 (N,)
    findings: np.ndarray  # int64 (N,), -1 where unknown
    image_ids: list[str]
    patient_ids: list[str]


def train_batches(
    dataset: BuiltDataset,
    *,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    cache: str = "auto",
    split: str = "train",
) -> tf.data.Dataset:
    """Shuffled batches without end, every epoch in its own order drawn from `seed` and its number.

    An epoch is ceil(N / batch_size) batches and holds every example once; its last batch may be
    smaller. Starting at `first_epoch` gives what an uninterrupted run would have seen from there.

    Args:
      dataset: from `open_dataset`.
      batch_size: images a batch.
      seed: of the orders.
      first_epoch: number of the first epoch, from 0.
      cache: "ram" holds the split as one uint8 tensor and orders it exactly at random; "none" reads
        the shards in a random order through a shuffle buffer of 4,096 examples; "auto" is "ram"
        where the split fits into a quarter of the free memory.
      split: which split.

    Returns:
      A dataset of (images uint8 (B, S, S, C), labels float32 (B, 1)), prefetched. Labels are int64
      (B,) where the dataset has more than two classes.

    Raises:
      InputError: the split is empty or smaller than a batch, `cache` is unknown, or a shard is found
        damaged while it is cached; while it is streamed see `damage_named`.
    """
    dataset.check_split(split)
    if cache not in CACHES:
        raise InputError(f"cache={cache!r}; expected one of {', '.join(CACHES)}.")
    check_batch_size(dataset, split, batch_size)
    in_ram = cache == "ram" or (cache == "auto" and _bytes(dataset, split) < _RAM_FRACTION * _free_memory())
    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
    of_epoch = _cached_epoch if in_ram else _streamed_epoch
    batches = epochs.flat_map(of_epoch(dataset, split, batch_size, seed))
    return batches.map(_targets(dataset)).prefetch(tf.data.AUTOTUNE)


def check_batch_size(dataset: BuiltDataset, split: str, batch_size: int) -> None:
    """Raises:
    InputError: `batch_size` is below 1 or larger than the split.
    """
    if not 1 <= batch_size <= dataset.sizes[split]:
        raise InputError(
            f"batch size {batch_size}; expected 1 to {dataset.sizes[split]}, "
            f"the images of split {split!r} of {dataset.name}."
        )


def with_mixup(
    batches: tf.data.Dataset, alpha: float, classes: int, *, seed: int, first_batch: int = 0
) -> tf.data.Dataset:
    """Draws for each image the share it keeps, and mixes the labels; `augment.mix` mixes the images.

    Args:
      batches: from `train_batches`.
      alpha: shares come from Beta(alpha, alpha) (Zhang et al. 2018, https://arxiv.org/abs/1710.09412).
      classes: number of classes.
      seed: of the shares.
      first_batch: number of the first batch, from 0, so that a resumed run draws the same.

    Returns:
      A dataset of ((images, shares float32 (B,)), labels float32 (B, 1), or (B, K) for K > 2 classes).
    """

    def draw(number: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple:
        images, labels = batch
        if classes > 2:
            labels = tf.one_hot(labels, classes)
        own, other = tf.unstack(tf.random.stateless_gamma((2, tf.shape(images)[0]), (seed, number), alpha))
        # Both are 0 where a small alpha underflows: such a draw is all or nothing anyway.
        share = tf.math.divide_no_nan(own, own + other)
        weight = share[:, tf.newaxis]
        return (images, share), weight * labels + (1 - weight) * labels[::-1]

    return batches.enumerate(first_batch).map(draw)


def eval_batches(
    dataset: BuiltDataset, split: str, *, batch_size: int = 64, fields: Sequence[str] = ("image", "label")
) -> tf.data.Dataset:
    """Every example of a split once, in the order of the records, as dictionaries of `fields`.

    Raises:
      InputError: the split does not exist or is empty.
    """
    dataset.check_split(split)
    serialized = tf.data.Dataset.from_tensor_slices(dataset.shards[split]).flat_map(shard_reader)
    batches = (
        serialized.apply(_complete(dataset, split))
        .batch(batch_size)
        .map(lambda records: parse_batch(records, dataset.shape, fields), num_parallel_calls=tf.data.AUTOTUNE)
    )
    return batches.prefetch(tf.data.AUTOTUNE)


def numpy_batches(
    dataset: BuiltDataset, split: str, *, batch_size: int = 64, fields: Sequence[str] = ("image", "label")
) -> Iterator[dict[str, np.ndarray]]:
    """The same as NumPy arrays.

    Raises:
      InputError: the split does not exist or is empty, or a shard is damaged.
    """
    with damage_named(dataset):
        yield from eval_batches(dataset, split, batch_size=batch_size, fields=fields).as_numpy_iterator()


@contextlib.contextmanager
def damage_named(dataset: BuiltDataset) -> Iterator[None]:
    """Names the damaged shard where reading `dataset` fails; TensorFlow's own message names no file.

    Raises:
      InputError: a shard was changed or cut after it was built.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.FailedPreconditionError) as err:
        for split, shards in dataset.shards.items():
            for shard, size in zip(shards, dataset.shard_sizes[split], strict=True):
                if damage := _damage(shard, size):
                    folder = Path(shard).parent
                    raise InputError(f"{shard} is damaged: {damage}. Remove {folder} and build it again.") from err
        raise


def _damage(shard: str, size: int) -> str:
    """What is wrong with a shard that should hold `size` examples; "" if nothing is."""
    count = 0
    try:
        for _ in shard_reader(shard):
            count += 1
    except tf.errors.DataLossError:
        return f"example {count + 1} of {size} is not as it was written"
    return "" if count == size else f"it holds {count} examples, {size} were written"


def _complete(dataset: BuiltDataset, split: str) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """Fails where a split ends early: a shard cut between two records is no error to TensorFlow."""
    return tf.data.experimental.assert_cardinality(dataset.sizes[split])


def load_split(dataset: BuiltDataset, split: str) -> Examples:
    """A whole split in memory, in the order of the records.

    Raises:
      InputError: the split does not exist or is empty, or a shard is damaged.
    """
    fields = ("image", "label", "finding", "image_id", "patient_id")
    batches = list(numpy_batches(dataset, split, batch_size=256, fields=fields))
    whole = {field: np.concatenate([batch[field] for batch in batches]) for field in fields}
    return Examples(
        whole["image"],
        whole["label"],
        whole["finding"],
        [text.decode() for text in whole["image_id"]],
        [text.decode() for text in whole["patient_id"]],
    )


def _cached_epoch(dataset: BuiltDataset, split: str, batch_size: int, seed: int) -> _Epoch:
    # Held as one tensor, from which whole batches are gathered by index: no per-example work at all.
    images, labels = _load_tensors(dataset, split)

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(len(labels)), seed=(seed, number))
        return (
            tf.data.Dataset.from_tensor_slices(order)
            .batch(batch_size)
            .map(lambda index: (tf.gather(images, index), tf.gather(labels, index)), tf.data.AUTOTUNE)
        )

    return epoch


def _load_tensors(dataset: BuiltDataset, split: str) -> tuple[tf.Tensor, tf.Tensor]:
    """The split as one uint8 (N, S, S, C) and one int64 (N,) tensor."""
    images = np.empty((dataset.sizes[split], *dataset.shape), np.uint8)
    labels = np.empty(dataset.sizes[split], np.int64)
    start = 0
    for batch in numpy_batches(dataset, split, batch_size=256):
        stop = start + len(batch["label"])
        images[start:stop], labels[start:stop] = batch["image"], batch["label"]
        start = stop
    return tf.constant(images), tf.constant(labels)


def _streamed_epoch(dataset: BuiltDataset, split: str, batch_size: int, seed: int) -> _Epoch:
    shards = tf.constant(dataset.shards[split])

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(shards, seed=(seed, number))
        # First whole shards, then the buffer: what lies together in a shard is spread over the epoch.
        # Deterministic, or the same seed would not give the same batches.
        serialized = tf.data.Dataset.from_tensor_slices(order).interleave(
            shard_reader,
            cycle_length=min(_SHARDS_AT_ONCE, len(dataset.shards[split])),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        # For this function's graph alone: otherwise the global seed enters the order, and a global 0 fails.
        tf.random.set_seed(1)
        buffer_seed = tf.random.stateless_uniform((), (seed, number), None, None, tf.int64)
        return (
            serialized.apply(_complete(dataset, split))
            .shuffle(SHUFFLE_BUFFER, seed=buffer_seed)
            .batch(batch_size)
            .map(lambda records: _image_and_label(records, dataset), tf.data.AUTOTUNE)
        )

    return epoch


def _image_and_label(records: tf.Tensor, dataset: BuiltDataset) -> tuple[tf.Tensor, tf.Tensor]:
    parsed = parse_batch(records, dataset.shape, ("image", "label"))
    return parsed["image"], parsed["label"]


def _targets(dataset: BuiltDataset) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    if len(dataset.labels) > 2:
        return lambda images, labels: (images, labels)
    return lambda images, labels: (images, tf.cast(labels, tf.float32)[:, tf.newaxis])


def _bytes(dataset: BuiltDataset, split: str) -> int:
    return int(np.prod(dataset.shape)) * dataset.sizes[split]


def _free_memory() -> int:
    """Bytes available to new processes without swapping; half the memory where the system does not say."""
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as lines:
            return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
