"""TFRecord shards as TFDS writes them: parsing a batch at once and reading a split back."""

from __future__ import annotations

import array
import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cxr_tfds.reading.fingerprint import LABEL_FIELDS, SplitDigests, label_bytes
from cxr_tfds.reading.offsets import image_head

# Large enough that parsing costs little per record, small enough for images of any size.
_READ_BACK_BATCH = 16
_READ_BACK_AHEAD = 4  # batches
# Of a TFRecord: length and its checksum, checksum of the content. See
# https://www.tensorflow.org/tutorials/load_data/tfrecord.
_HEADER_BYTES, _FOOTER_BYTES = 12, 4
# Of 256 KB, 1 MB and 8 MB the first took the least CPU time: 46, 52 and 55 microseconds an image
# at 224 x 224 (x86-64, 2 cores, 2026-11).
_READ_BUFFER_BYTES = 256 << 10

# For functions of datasets without control flow on tensors. Converting one with autograph takes
# longer than reading a small split.
without_autograph = tf.autograph.experimental.do_not_convert

TEXT_FIELDS = ("image_id", "patient_id")
STATES = "states"  # only in datasets whose images may have several findings
_TYPES = dict.fromkeys(("image", *TEXT_FIELDS), tf.string) | dict.fromkeys(
    ("label", "finding", "height", "width"), tf.int64
)


def parse_batch(serialized: tf.Tensor, fields: Iterable[str]) -> dict[str, Any]:
    """Parses N serialized examples, string (N,), in one call.

    Returns:
      Field to tensor: string (N,) for the stored bytes of `image` and for ids; int64 (N, K) for
      `states`, with K = 0 if the examples have none; else int64 (N,).
    """
    return tf.io.parse_example(
        serialized,
        {
            field: tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)
            if field == STATES
            else tf.io.FixedLenFeature([], _TYPES[field])
            for field in fields
        },
    )


def shard_reader(shard: tf.Tensor | str | Sequence[str]) -> tf.data.TFRecordDataset:
    """Returns the serialized examples of one shard, or of several one after the other."""
    return tf.data.TFRecordDataset(shard, buffer_size=_READ_BUFFER_BYTES)


def digest_split(
    shards: Sequence[str],
    sizes: Sequence[int],
    visit: Callable[[list[str]], object] = lambda ids: None,
) -> SplitDigests:
    """Returns the digests of a split and the positions of its images.

    Reads every example once and holds a few in memory.

    Args:
      shards: Paths of its shards, in order.
      sizes: Number of examples in each shard.
      visit: Called with the image ids of each batch.

    Raises:
      tf.errors.OpError: A shard is missing or corrupt.
      ValueError: An example was not written by protobuf.
    """
    digest, ends, count = hashlib.sha256(), dict.fromkeys(itertools.accumulate(sizes), ""), 0
    labels = {field: hashlib.sha256() for field in LABEL_FIELDS}
    offsets, position = array.array("q"), 0
    fields = [*sorted(_TYPES), STATES]
    batches = (
        shard_reader(list(shards))
        .batch(_READ_BACK_BATCH)
        .map(without_autograph(lambda batch: (batch, parse_batch(batch, fields))))
        .prefetch(_READ_BACK_AHEAD)  # one core reads while another one hashes
    )
    for records, parsed in batches.as_numpy_iterator():
        for field, label_digest in labels.items():
            label_digest.update(label_bytes(parsed[field]))
        # Not the serialized bytes: the order of their fields differs from process to process.
        columns = (parsed[field] for field in fields)
        for record, image, *values, states in zip(records, parsed["image"], *columns, strict=True):
            head = image_head(len(image))
            start = position + _HEADER_BYTES + record.index(head) + len(head)
            offsets.extend((start, len(image)))
            position += _HEADER_BYTES + len(record) + _FOOTER_BYTES
            for value in (*values, *states):
                content = value if isinstance(value, bytes) else b"%d" % value
                digest.update(b"%d " % len(content))
                digest.update(content)
            count += 1
            if count in ends:
                ends[count], position = digest.hexdigest(), 0  # of the next shard
        visit([image_id.decode() for image_id in parsed["image_id"]])
    return SplitDigests(
        count,
        digest.hexdigest(),
        {field: label_digest.hexdigest() for field, label_digest in labels.items()},
        [ends[end] for end in itertools.accumulate(sizes)],
        np.array(offsets, np.int64).reshape(-1, 2),
    )
