"""A built dataset read once, in stored order: for evaluating, caching and counting."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.imaging.pixels import radiograph
from cxr_tfds.parallel import all_cores
from cxr_tfds.reading import POLICIES
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.description import RECORD_BYTES
from cxr_tfds.reading.fingerprint import label_bytes
from cxr_tfds.reading.records import (
    TEXT_FIELDS,
    parse_batch,
    shard_reader,
    without_autograph,
)
from cxr_tfds.sources.image import State
from cxr_tfds.task import Task

_pool = functools.cache(all_cores)
_COLUMN_BATCH = 256  # records that are parsed at a time for their small fields
_ID_FIELDS = ("image_id", "patient_id", "label", "finding")
_READ_ERRORS = tf.errors.DataLossError, tf.errors.FailedPreconditionError, tf.errors.NotFoundError
# Part of TensorFlow's message if a data service loses examples.
_LOST_BY_SERVICE = re.compile(
    r"was expected to contain|(?P<why>Failed to get element from worker .*?)( \[Op:|$)"
)


def parse(serialized: tf.Tensor, dataset: BuiltDataset, fields: Sequence[str]) -> dict[str, Any]:
    """Parses N serialized examples in one call.

    Returns:
      Field to tensor: `image` uint8 (N, S, S, C), fitted on the fly if the dataset stores source
      files; texts string (N,); the others int64 (N,). `label` is the field `dataset.target`, int64
      (N, K) if that is `states`.
    """
    stored = {field: dataset.target if field == "label" else field for field in fields}
    values = parse_batch(serialized, set(stored.values()))
    parsed = {field: values[name] for field, name in stored.items()}
    if "image" in fields and dataset.encoded:
        fit = image_function(lambda files: fit_files(files, dataset), dataset)
        parsed["image"] = fit(parsed["image"])
    elif "image" in fields:
        pixels = tf.io.decode_raw(parsed["image"], tf.uint8)
        parsed["image"] = tf.reshape(pixels, (-1, *dataset.shape))
    return parsed


def image_function(
    function: Callable[[np.ndarray], np.ndarray], dataset: BuiltDataset
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a NumPy function that makes images, uint8 (N, S, S, C), as a function of tensors."""

    def call(values: tf.Tensor) -> tf.Tensor:
        images = tf.numpy_function(function, [values], tf.uint8, stateful=False)
        return tf.ensure_shape(images, (None, *dataset.shape))

    return call


def fit_files(files: Iterable[bytes], dataset: BuiltDataset) -> np.ndarray:
    """Returns N source files as uint8 (N, S, S, C), fitted by `radiograph` on all cores."""
    size, _, channels = dataset.shape
    levels = GreyLevels.from_metadata(dataset.grey_levels)

    def fit(data: bytes) -> np.ndarray:
        return radiograph(data, size, fit=dataset.fit, channels=channels, levels=levels).pixels

    return np.stack(list(_pool().map(fit, files)))


def encode_labels(labels: tf.Tensor, dataset: BuiltDataset, *, training: bool = False) -> tf.Tensor:
    """Returns the targets of a model, float32: (N, 1) for two classes, otherwise (N, K).

    Class numbers int64 (N,) become 0 or 1, or one-hot for K > 2 classes. States int64 (N, K) of
    findings become 1, 0, or NaN where they do not count. `training` applies `dataset.uncertain`;
    otherwise uncertain states do not count.
    """
    if dataset.task is Task.MULTICLASS:
        return tf.one_hot(labels, len(dataset.labels))
    targets = tf.cast(labels, tf.float32)
    if dataset.task is Task.BINARY:
        return targets[:, tf.newaxis]
    uncertain = dataset.uncertain if training else "ignore"
    for state, policy in ((State.UNCERTAIN, uncertain), (State.UNKNOWN, dataset.unknown)):
        targets = tf.where(labels == state, POLICIES[policy], targets)
    return targets


def field_batches(
    dataset: BuiltDataset, split: str, fields: Sequence[str], *, batch_size: int = 64
) -> tf.data.Dataset:
    """Returns every example of a split once, in stored order, as dictionaries of `fields`.

    Raises:
      InputError: The split does not exist or is empty.
    """
    dataset.check_split(split)
    return (
        _stored_records(dataset, split)
        .batch(batch_size)
        .map(
            without_autograph(lambda records: parse(records, dataset, fields)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .prefetch(tf.data.AUTOTUNE)
    )


def _stored_records(dataset: BuiltDataset, split: str) -> tf.data.Dataset:
    """Returns the serialized examples of a split in stored order."""
    # TensorFlow accepts a shard that was cut between two records.
    exact = tf.data.experimental.assert_cardinality(dataset.sizes[split])
    return shard_reader(dataset.shards[split]).apply(exact)


def evaluation_batches(
    dataset: BuiltDataset, split: str, batch_size: int, *, with_ids: bool
) -> tf.data.Dataset:
    """Implements `BuiltDataset.batches`."""

    @without_autograph
    def arrange(parsed: dict[str, tf.Tensor]) -> tuple:
        batch = parsed["image"], encode_labels(parsed["label"], dataset)
        return (*batch, {field: parsed[field] for field in _ID_FIELDS}) if with_ids else batch

    fields = ("image", *_ID_FIELDS) if with_ids else ("image", "label")
    return field_batches(dataset, split, fields, batch_size=batch_size).map(arrange)


def read_columns(dataset: BuiltDataset, split: str, *fields: str) -> dict[str, np.ndarray]:
    """Returns `fields` of a complete split without its images.

    Returns:
      Field to its values in stored order: str (N,) for ids, int64 (N,) for the others, (N, K) for
      the `label` of a dataset whose images may have several findings.

    Raises:
      InputError: The split does not exist or is empty, or a shard is corrupt.
    """
    dataset.check_split(split)
    records = _stored_records(dataset, split).batch(_COLUMN_BATCH).prefetch(tf.data.AUTOTUNE)
    with name_corrupt_shard(dataset):
        # Parsed outside of the dataset, because tracing a `map` takes longer than small splits.
        batches = [parse(batch, dataset, fields) for batch in records]
    columns = {field: np.concatenate([batch[field] for batch in batches]) for field in fields}
    if "label" in columns:
        check_labels_unchanged(dataset, split, columns["label"])
    for field in set(TEXT_FIELDS).intersection(fields):
        columns[field] = np.array([text.decode() for text in columns[field]])
    return columns


def check_labels_unchanged(dataset: BuiltDataset, split: str, labels: np.ndarray) -> None:
    """Raises an InputError if the labels of a complete split differ from its fingerprint."""
    if dataset.recorded is None:  # built by an earlier version
        return
    built = dict(dataset.recorded["content"]["splits"][split])[dataset.target]
    if hashlib.sha256(label_bytes(labels)).hexdigest() != built:
        raise InputError(
            f"The labels of split {split!r} in {dataset.folder} were changed after the dataset was "
            f"built. Remove the folder and build it again, or copy it again. Details: cxr-data "
            f"verify {dataset.name} --data-dir {shlex.quote(str(dataset.data_dir))}"
        )


@contextlib.contextmanager
def name_corrupt_shard(dataset: BuiltDataset) -> Iterator[None]:
    """Names the corrupt shard if reading `dataset` fails; TensorFlow's message names no file.

    Raises:
      InputError: A shard was changed, cut or removed after it was built, or a data service lost
        examples.
    """
    try:
        yield
    except _READ_ERRORS as err:
        for split, shards in dataset.shards.items():
            for shard, size in zip(shards, dataset.shard_sizes[split], strict=True):
                if defect := _find_defect(shard, size):
                    raise InputError(
                        f"{shard} {defect}. Remove {Path(shard).parent} and build it again."
                    ) from err
        if lost := _LOST_BY_SERVICE.search(err.message):
            raise InputError(
                f"The data service lost examples of {dataset.name}"
                f"{': ' + lost['why'] if lost['why'] else ''}. Every worker must have the same "
                "files as this machine under the same path: copy them there again."
            ) from err
        raise


def _find_defect(shard: str, size: int) -> str:
    """Returns what is wrong with a shard that should hold `size` examples, or ""."""
    count = position = 0
    try:
        for record in shard_reader(shard).as_numpy_iterator():
            count += 1
            position += RECORD_BYTES + len(record)
    except tf.errors.NotFoundError:
        return "is missing"
    except tf.errors.DataLossError:
        return f"is corrupt: example {count + 1} of {size}, at byte {position}, was changed or cut"
    return "" if count == size else f"is corrupt: expected {size} examples, found {count}"
