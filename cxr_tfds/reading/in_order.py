"""A built dataset read once, in the order of its records: for measuring, caching and calibrating."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.pixels import radiograph
from cxr_tfds.parallel import all_cores
from cxr_tfds.reading.datasets import RECORD_BYTES, BuiltDataset
from cxr_tfds.reading.records import parse_batch, shard_reader

# What TensorFlow says where a data service gives too little.
_OF_SERVICE = re.compile(
    r"was expected to contain|(?P<why>Failed to get element from worker .*?)( \[Op:|$)"
)


class Examples(NamedTuple):
    """A split in memory; `patient_ids` are "" where unknown."""

    images: np.ndarray  # uint8 (N, S, S, C)
    labels: np.ndarray  # int64 (N,)
    findings: np.ndarray  # int64 (N,), -1 where unknown
    image_ids: list[str]
    patient_ids: list[str]


def parse(serialized: tf.Tensor, dataset: BuiltDataset, fields: Sequence[str]) -> dict[str, Any]:
    """Parses N serialized examples in one call.

    Returns:
      `image` uint8 (N, S, S, C), fitted on the fly where the dataset stores source files; texts
      string (N,); the others int64 (N,). `label` is what the dataset's target says.
    """
    stored = dict.fromkeys(dataset.target if field == "label" else field for field in fields)
    parsed = parse_batch(serialized, list(stored))
    parsed = {field: parsed[dataset.target if field == "label" else field] for field in fields}
    if "image" in parsed:
        parsed["image"] = _pixels(parsed["image"], dataset)
    return parsed


def _pixels(stored: tf.Tensor, dataset: BuiltDataset) -> tf.Tensor:
    """uint8 (N, S, S, C) from what the records hold, string (N,)."""
    if not dataset.encoded:
        return tf.reshape(tf.io.decode_raw(stored, tf.uint8), (-1, *dataset.shape))
    images = tf.numpy_function(
        lambda files: fit_files(files, dataset), [stored], tf.uint8, stateful=False
    )
    return tf.ensure_shape(images, (None, *dataset.shape))


def fit_files(files: Iterable[bytes], dataset: BuiltDataset) -> np.ndarray:
    """uint8 (N, S, S, C) of N source files, by the one pixel function, on all cores."""
    size, _, channels = dataset.shape
    fitted = _pool().map(
        lambda data: radiograph(data, size, fit=dataset.fit, channels=channels).pixels, files
    )
    return np.stack(list(fitted))


@functools.cache
def _pool() -> Executor:
    return all_cores()


def eval_batches(
    dataset: BuiltDataset,
    split: str,
    *,
    batch_size: int = 64,
    fields: Sequence[str] = ("image", "label"),
) -> tf.data.Dataset:
    """Every example of a split once, in the order of the records, as dictionaries of `fields`.

    Raises:
      InputError: the split does not exist or is empty.
    """
    dataset.check_split(split)
    serialized = tf.data.Dataset.from_tensor_slices(dataset.shards[split]).flat_map(shard_reader)
    batches = (
        serialized.apply(complete(dataset, split))
        .batch(batch_size)
        .map(lambda records: parse(records, dataset, fields), num_parallel_calls=tf.data.AUTOTUNE)
    )
    return batches.prefetch(tf.data.AUTOTUNE)


def numpy_batches(
    dataset: BuiltDataset,
    split: str,
    *,
    batch_size: int = 64,
    fields: Sequence[str] = ("image", "label"),
) -> Iterator[dict[str, np.ndarray]]:
    """The same as NumPy arrays.

    Raises:
      InputError: the split does not exist or is empty, or a shard is damaged.
    """
    with name_corrupt_shard(dataset):
        yield from eval_batches(
            dataset, split, batch_size=batch_size, fields=fields
        ).as_numpy_iterator()


@contextlib.contextmanager
def name_corrupt_shard(dataset: BuiltDataset) -> Iterator[None]:
    """Names the damaged shard where reading `dataset` fails; TensorFlow's own message names no file.

    Raises:
      InputError: a shard was changed, cut or removed after it was built, or a data service lost examples.
    """
    try:
        yield
    except (
        tf.errors.DataLossError,
        tf.errors.FailedPreconditionError,
        tf.errors.NotFoundError,
    ) as err:
        for split, shards in dataset.shards.items():
            for shard, size in zip(shards, dataset.shard_sizes[split], strict=True):
                if damage := _damage(shard, size):
                    raise InputError(
                        f"{shard} {damage}. Remove {Path(shard).parent} and build it again."
                    ) from err
        if lost := _OF_SERVICE.search(err.message):
            raise InputError(
                f"the data service did not give every example of {dataset.name}: {lost['why'] or 'some were lost'}. "
                "Each worker must have the files of this machine under the same path: copy them there again."
            ) from err
        raise


def _damage(shard: str, size: int) -> str:
    """What is wrong with a shard that should hold `size` examples; "" if nothing is."""
    count = position = 0
    try:
        for record in shard_reader(shard).as_numpy_iterator():
            count += 1
            position += RECORD_BYTES + len(record)
    except tf.errors.NotFoundError:
        return "is missing"
    except tf.errors.DataLossError:
        return f"is damaged: example {count + 1} of {size}, at byte {position}, is not as it was written"
    return "" if count == size else f"is damaged: it holds {count} examples, {size} were written"


def complete(dataset: BuiltDataset, split: str) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """Fails where a split ends early: a shard cut between two records is no error to TensorFlow."""
    return tf.data.experimental.assert_cardinality(dataset.sizes[split])


def all_served(
    dataset: BuiltDataset, split: str, batch_size: int
) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """Fails where an epoch of a data service ends early: a shard cut on a worker is no error there."""
    size = dataset.sizes[split]

    def full(number: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        expected = tf.minimum(tf.cast(batch_size, tf.int64), size - number * batch_size)
        return tf.equal(tf.shape(batch[1], tf.int64)[0], expected)

    def check(epoch: tf.data.Dataset) -> tf.data.Dataset:
        batches = epoch.enumerate().filter(full).map(lambda number, batch: batch)
        return batches.apply(tf.data.experimental.assert_cardinality(-(-size // batch_size)))

    return check


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
