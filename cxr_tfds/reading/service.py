"""Reading through the tf.data service: other machines read and parse the records, this one trains.

Start one dispatcher and any number of workers, each with the dataset under the same path:

  python -m cxr_tfds.reading.service dispatcher --port 5050
  python -m cxr_tfds.reading.service worker --dispatcher HOST:5050 --host THIS_MACHINE

then train with `cxr-train … --data-service grpc://HOST:5050`.
See https://www.tensorflow.org/api_docs/python/tf/data/experimental/service.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from cxr_tfds.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

    from cxr_tfds.reading.datasets import BuiltDataset

_SCHEME = "grpc://"
_ANSWER_SECONDS = 5
_SHUFFLE_BUFFER = 2048  # serialized examples within which a worker shuffles; 100 MB at 224 x 224


def check_address(address: str) -> None:
    """Raises:
    InputError: `address` is not grpc://HOST:PORT.
    """
    host, _, port = address.removeprefix(_SCHEME).rpartition(":")
    if not address.startswith(_SCHEME) or not host or not port.isdecimal():
        raise InputError(
            f"data service {address!r}; expected grpc://HOST:PORT, such as grpc://10.0.0.7:5050."
        )


def check_answers(address: str) -> None:
    """Raises:
    InputError: nothing listens at `address`; TensorFlow would wait for it for an hour.
    """
    check_address(address)
    host, _, port = address.removeprefix(_SCHEME).rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError as err:
        raise InputError(
            f"no data service answers at {address}: {err}. Start one with: "
            f"python -m cxr_tfds.reading.service dispatcher --port {port}"
        ) from err


def served_batches(
    dataset: BuiltDataset, address: str, *, batch_size: int, split: str = "train"
) -> tf.data.Dataset:
    """As `pipeline.train_batches`, read by the workers of a tf.data service.

    Each epoch hands every shard to one worker, so every example comes once, in an order of its own that
    is not repeatable. Where examples are lost, as with a shard that a worker has in part, reading fails
    before the epoch ends; `in_order.name_corrupt_shard` says why. A dataset of source files is not served: its
    pixel function is Python and cannot be sent.

    Raises:
      InputError: the dataset stores source files, the split is smaller than a batch, or nothing
        answers at the address.
    """
    import tensorflow as tf

    from cxr_tfds.reading.in_order import all_served
    from cxr_tfds.reading.pipeline import check_batch_size, image_and_target
    from cxr_tfds.reading.records import shard_reader

    dataset.check_split(split)
    check_batch_size(dataset, split, batch_size)
    check_answers(address)
    if dataset.encoded:
        raise InputError(
            f"{dataset.name} stores source files, which a data service cannot fit. Build a sized config."
        )

    @tf.function
    def records() -> tf.data.Dataset:
        # Without a seed a worker shuffles anew in each epoch, with one always the same way. The global seed, which
        # training sets, would take the place of none.
        tf.compat.v1.get_default_graph().seed = None
        shards = tf.data.Dataset.from_tensor_slices(dataset.shards[split]).shuffle(
            len(dataset.shards[split])
        )
        return shards.interleave(shard_reader, num_parallel_calls=tf.data.AUTOTUNE).shuffle(
            _SHUFFLE_BUFFER
        )

    batches = (
        records()
        .batch(batch_size)
        .map(lambda serialized: image_and_target(serialized, dataset), tf.data.AUTOTUNE)
    )
    policy = tf.data.experimental.service.ShardingPolicy.DYNAMIC
    served = batches.apply(tf.data.experimental.service.distribute(policy, address))
    # Each worker ends with a smaller batch of its own; cut anew, an epoch is ceil(N / batch_size) again.
    epoch = served.rebatch(batch_size).apply(all_served(dataset, split, batch_size))
    return epoch.repeat().prefetch(tf.data.AUTOTUNE)
