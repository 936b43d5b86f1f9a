"""Training batches as plain `tf.data.Dataset`s."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import tensorflow as tf

from cxr_tfds.errors import InputError
from cxr_tfds.reading import CACHES, Shard
from cxr_tfds.reading.cache import open_source
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.records import without_autograph
from cxr_tfds.reading.sequential import encode_labels

# Of images that one call of Python reads: a call took 0.26 ms of CPU time, whatever it does. Two
# calls at once were not faster (x86-64, 2 cores, 2026-11).
_CALL_BYTES = 8 << 20
_PREFETCH_BYTES = 64 << 20
_PREFETCH_BATCHES = 8  # at least, of large images


def train_batches(
    dataset: BuiltDataset,
    split: str,
    batch_size: int,
    seed: int,
    first_batch: int,
    cache: str,
    cache_dir: Path | None,
    shard: Shard,
) -> tf.data.Dataset:
    """Implements `BuiltDataset.train`."""
    dataset.check_split(split)
    if cache not in CACHES:
        raise InputError(f"cache={cache!r}; expected one of {', '.join(CACHES)}.")
    check_batch_size(dataset, split, batch_size * shard.count)
    source = open_source(dataset, split, cache, cache_dir)
    targets = encode_labels(source.labels, dataset, training=True)
    batch_bytes = batch_size * math.prod(dataset.shape)
    ahead = max(1, _CALL_BYTES // batch_bytes) if source.copies else 1
    steps = math.ceil(len(targets) / (batch_size * shard.count))
    first_epoch, skipped = divmod(first_batch, steps * shard.devices)

    @without_autograph
    def read(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return source.gather(index), tf.gather(targets, index)

    @without_autograph
    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        full, last = _draw_epoch(number, len(targets), batch_size, seed, shard)
        first = tf.where(number == first_epoch, tf.constant(skipped, tf.int64), 0)
        first_full = tf.minimum(first, full.shape[0])
        calls = tf.data.Dataset.range(first_full, full.shape[0], ahead).map(
            without_autograph(lambda turn: read(tf.reshape(full[turn : turn + ahead], [-1])))
        )
        return calls.rebatch(batch_size).concatenate(
            tf.data.Dataset.range(first - first_full, shard.devices if last.shape[0] else 0).map(
                without_autograph(lambda turn: read(last[shard.index + turn :: shard.count]))
            )
        )

    options = tf.data.Options()
    # Autotuning let the buffer in front of a training step grow by 290 MB; with this bound it grew
    # by 10 MB, at the same speed (224 x 224, batch 32, x86-64, 2 cores, 2026-11).
    options.autotune.ram_budget = max(_PREFETCH_BYTES, _PREFETCH_BATCHES * batch_bytes)
    return (
        tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
        .flat_map(epoch)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )


def _draw_epoch(
    number: tf.Tensor, count: int, batch_size: int, seed: int, shard: Shard
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws the order of an epoch.

    Returns:
      The images of each batch of this reader, int32 (batches, batch_size), as far as batches are
      complete; and the other images of all readers, int32 (n,).
    """
    order = tf.random.experimental.stateless_shuffle(tf.range(count), seed=(seed, number))
    steps, rest = divmod(count, batch_size * shard.count)
    full, last = tf.split(order, [count - rest, rest])
    own = tf.reshape(full, (steps, batch_size, shard.count))[
        :, :, shard.index : shard.index + shard.devices
    ]
    # Kernels for CPUs fail at a batch without images.
    padding = shard.count - rest if 0 < rest < shard.count else 0
    return (
        tf.reshape(tf.transpose(own, (0, 2, 1)), (steps * shard.devices, batch_size)),
        tf.concat([last, order[:padding]], 0),
    )


def check_batch_size(dataset: BuiltDataset, split: str, batch_size: int) -> None:
    """Raises an InputError if `batch_size` is below 1 or larger than the split."""
    if not 1 <= batch_size <= dataset.sizes[split]:
        raise InputError(
            f"batch size {batch_size}; expected 1 to {dataset.sizes[split]}, the number of images "
            f"in split {split!r} of {dataset.name}."
        )


def to_accelerator(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Copies batches ahead to the GPU, or returns them unchanged unless there is exactly one.

    With several GPUs `cxr_tfds.training.distributed` copies ahead.
    """
    devices = tf.config.list_logical_devices("GPU")
    if len(devices) != 1:
        return batches
    return batches.apply(tf.data.experimental.prefetch_to_device(devices[0].name))


def with_mixup(
    batches: tf.data.Dataset, alpha: float, *, seed: int, first_batch: int = 0, shard: Shard
) -> tf.data.Dataset:
    """Draws the share that each image keeps and mixes the labels; `augment.mix` mixes the images.

    Shares are drawn from Beta(alpha, alpha) (Zhang et al. 2018, https://arxiv.org/abs/1710.09412).
    Each shard draws its own. A finding that does not count (NaN) in one of two mixed images does
    not count in the mixture either. `first_batch` is the number of the first batch, from 0, so that
    a resumed run draws the same shares.

    Returns:
      A dataset of ((images, shares float32 (B,)), labels float32 (B, 1) or (B, K)).
    """

    @without_autograph
    def mix_labels(number: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple:
        images, labels = batch
        seeds = seed, (shard.index << 48) + number
        own, other = tf.unstack(
            tf.random.stateless_gamma((2, tf.shape(images)[0]), seeds, alpha), 2
        )
        # With a small alpha both may underflow to 0; such a share is nearly 0 or 1 anyway.
        share = tf.math.divide_no_nan(own, own + other)
        weight = share[:, tf.newaxis]
        return (images, share), weight * labels + (1 - weight) * labels[::-1]

    return batches.enumerate(first_batch).map(mix_labels)
