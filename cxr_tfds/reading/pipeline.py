"""Records to batches: plain `tf.data.Dataset`s for training."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from cxr_tfds.errors import InputError
from cxr_tfds.reading import CACHES
from cxr_tfds.reading.cache import Gather, fits_in_memory, in_file, in_memory, in_records
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.in_order import parse

_PREFETCH_BYTES = 64 << 20
_PREFETCH_BATCHES = 8  # at least, of large images


def train_batches(
    dataset: BuiltDataset,
    *,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    cache: str = "auto",
    cache_dir: Path | None = None,
    split: str = "train",
    worker: int = 0,
    workers: int = 1,
    parts: int = 1,
) -> tf.data.Dataset:
    """Shuffled batches without end, every epoch in its own order drawn from `seed` and its number.

    An epoch is ceil(N / (batch_size * workers)) batches and holds every example once (with several workers
    up to `workers` - 1 twice, see there); its last batch may be smaller. Starting at `first_epoch` gives
    what an uninterrupted run would have seen from there.

    Args:
      dataset: from `open_dataset`.
      batch_size: images a batch.
      seed: of the orders.
      first_epoch: number of the first epoch, from 0.
      cache: "ram" holds the split as one uint8 tensor; "file" writes the fitted images to one file and
        reads from there, which spares a dataset of source files decoding them again; "none" scans the
        shards once, before the first batch, and then reads each image from its shard: the records'
        checksums are checked in that scan only. "auto" is "ram" where the split fits into a quarter of
        the free memory, "none" otherwise. The order is the same exact permutation with all of them.
      cache_dir: where the file of "file" goes; beside the shards if not given.
      split: which split.
      worker: number of this reader, from 0.
      workers: readers of the same seed that share each epoch. Their batches of one number are disjoint
        and add up to what a single reader has as its batch of `workers` times the size. All have as many
        and none is empty: where the last would have fewer images than there are readers, so many of the
        epoch's first come again.
      parts: readers in this one, for so many devices: it gives the batches of `worker`, `worker` + 1, …
        in turn.

    Returns:
      A dataset of (images uint8 (B, S, S, C), labels float32 (B, 1)), prefetched. Labels are int64
      (B,) where the dataset has more than two classes.

    Raises:
      InputError: the split is empty or a part of it smaller than a batch, `cache` or `worker` is not
        as described, the cache has no room, or a shard is damaged.
    """
    dataset.check_split(split)
    if cache not in CACHES:
        raise InputError(f"cache={cache!r}; expected one of {', '.join(CACHES)}.")
    if not 0 <= worker <= workers - parts or parts < 1:
        raise InputError(
            f"worker={worker} of {workers}, parts={parts}; expected a worker from 0 to workers - parts."
        )
    check_batch_size(dataset, split, batch_size * workers)
    if cache == "auto":
        cache = "ram" if fits_in_memory(dataset, split) else "none"
    if cache == "file":
        gather, labels = in_file(dataset, split, cache_dir)
    else:
        gather, labels = (in_memory if cache == "ram" else in_records)(dataset, split)
    of_epoch = _epoch(gather, targets(labels, dataset), batch_size, seed, worker, workers, parts)
    batches = (
        tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
        .flat_map(of_epoch)
        .prefetch(tf.data.AUTOTUNE)
    )
    return batches.with_options(_options(batch_size * math.prod(dataset.shape)))


def _options(batch_bytes: int) -> tf.data.Options:
    """How tf.data runs the reader, measured at 224 x 224, batch 32 (x86-64, 2 cores, 2026-11).

    Of what it may prefetch a bound is set: autotuning let the buffer in front of a training step grow by 290 MB, with
    the bound by 10 MB, at the same speed (216,000 and 221,000 images/s). Left as they are: determinism, without
    which the order is lost for 0.9 to 1.1 times the speed; a pool of private threads, 0.95 to 1.1 times; autotuning,
    without which reading from the shards fell to 0.9.
    """
    options = tf.data.Options()
    options.autotune.ram_budget = max(_PREFETCH_BYTES, _PREFETCH_BATCHES * batch_bytes)
    return options


def to_accelerator(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Copies batches to the GPU ahead of the step that takes them; with none, or several, leaves them.

    Several GPUs get theirs through `cxr_tfds.training.distributed`, which copies ahead as well.
    """
    devices = tf.config.list_logical_devices("GPU")
    if len(devices) != 1:
        return batches
    return batches.apply(tf.data.experimental.prefetch_to_device(devices[0].name))


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
    batches: tf.data.Dataset,
    alpha: float,
    classes: int,
    *,
    seed: int,
    first_batch: int = 0,
    worker: int = 0,
) -> tf.data.Dataset:
    """Draws for each image the share it keeps, and mixes the labels; `augment.mix` mixes the images.

    Args:
      batches: from `train_batches`.
      alpha: shares come from Beta(alpha, alpha) (Zhang et al. 2018, https://arxiv.org/abs/1710.09412).
      classes: number of classes.
      seed: of the shares.
      first_batch: number of the first batch, from 0, so that a resumed run draws the same.
      worker: number of this reader, from 0, so that each draws its own.

    Returns:
      A dataset of ((images, shares float32 (B,)), labels float32 (B, 1), or (B, K) for K > 2 classes).
    """

    def draw(number: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple:
        images, labels = batch
        if classes > 2:
            labels = tf.one_hot(labels, classes)
        drawn = tf.random.stateless_gamma(
            (2, tf.shape(images)[0]), (seed, (worker << 48) + number), alpha
        )
        own, other = tf.unstack(drawn)
        # Both are 0 where a small alpha underflows: such a draw is all or nothing anyway.
        share = tf.math.divide_no_nan(own, own + other)
        weight = share[:, tf.newaxis]
        return (images, share), weight * labels + (1 - weight) * labels[::-1]

    return batches.enumerate(first_batch).map(draw)


def _epoch(
    gather: Gather,
    wanted: tf.Tensor,
    batch_size: int,
    seed: int,
    worker: int,
    workers: int,
    parts: int,
) -> Callable[[tf.Tensor], tf.data.Dataset]:
    step = batch_size * workers  # of the order, which all readers take together
    steps = -(-len(wanted) // step)
    rest = len(wanted) % step
    again = (
        workers - rest if 0 < rest < workers else 0
    )  # kernels for CPUs fail at a batch of no images

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(len(wanted)), seed=(seed, number))
        order = tf.concat([order, order[:again]], 0)

        # Whole batches are gathered by index, in one map: no per-example work at all, not even to batch the indices.
        def batch(turn: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            start, part = turn // parts * step, worker + turn % parts
            index = order[start : start + step][part::workers]
            return gather(index), tf.gather(wanted, index)

        return tf.data.Dataset.range(steps * parts).map(batch, tf.data.AUTOTUNE)

    return epoch


def image_and_target(records: tf.Tensor, dataset: BuiltDataset) -> tuple[tf.Tensor, tf.Tensor]:
    """Images uint8 (B, S, S, C) and what the loss takes, of serialized examples (B,)."""
    parsed = parse(records, dataset, ("image", "label"))
    return parsed["image"], targets(parsed["label"], dataset)


def targets(labels: tf.Tensor, dataset: BuiltDataset) -> tf.Tensor:
    """What the loss takes of labels int64 (B,): float32 (B, 1), or for more than two classes the same."""
    return labels if len(dataset.labels) > 2 else tf.cast(labels, tf.float32)[:, tf.newaxis]
