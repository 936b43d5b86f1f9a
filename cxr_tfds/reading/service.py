"""Reading through the tf.data service: other machines read and parse records, this one trains.

Start one dispatcher and any number of workers, each with the dataset under the same path:

  python -m cxr_tfds.commands.data_service dispatcher --port 5050
  python -m cxr_tfds.commands.data_service worker --dispatcher HOST:5050 --host THIS_MACHINE

then train with `cxr-train … --data-service grpc://HOST:5050`.
See https://www.tensorflow.org/api_docs/python/tf/data/experimental/service.
"""

from __future__ import annotations

import contextlib
import re
import socket
from typing import TYPE_CHECKING

from cxr_tfds.deadline import keep_asking, serves
from cxr_tfds.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

    from cxr_tfds.reading.datasets import BuiltDataset

SCHEME = "grpc://"
_CONNECT_SECONDS = 5
_ADDRESS = re.compile(rb"[\w.\-\[\]:]+:\d+")
_SHUFFLE_BUFFER = 2048  # serialized examples a worker shuffles among; 100 MB at 224 x 224


def check_address(address: str) -> None:
    """Raises an InputError unless `address` is grpc://HOST:PORT."""
    host, _, port = address.removeprefix(SCHEME).rpartition(":")
    if not address.startswith(SCHEME) or not host or not port.isdecimal():
        raise InputError(
            f"Invalid data service address {address!r}; expected grpc://HOST:PORT, such as "
            "grpc://10.0.0.7:5050."
        )


def served_batches(
    dataset: BuiltDataset, address: str, *, batch_size: int, split: str = "train"
) -> tf.data.Dataset:
    """Returns training batches that the workers of a tf.data service read.

    They have the structure of `BuiltDataset.train`. Each epoch hands every shard to one worker, so
    every example comes once an epoch, in an order that is not repeatable. If a worker's copy of a
    shard is incomplete, reading fails before the epoch ends.

    Raises:
      InputError: The dataset stores source files (their pixel function is Python, which cannot be
        sent), the split is smaller than a batch, or nothing listens at the address.
    """
    import tensorflow as tf

    from cxr_tfds.reading.pipeline import check_batch_size
    from cxr_tfds.reading.records import shard_reader
    from cxr_tfds.reading.sequential import encode_labels, parse

    dataset.check_split(split)
    check_batch_size(dataset, split, batch_size)
    _check_connection(address)
    if dataset.encoded:
        raise InputError(
            f"{dataset.name} stores source files, which a data service cannot fit. Build a config "
            "with a size."
        )

    @tf.function
    def records() -> tf.data.Dataset:
        # Without a seed a worker shuffles differently in each epoch, with one always the same way.
        # The global seed, which training sets, would replace a missing one.
        tf.compat.v1.get_default_graph().seed = None
        paths = tf.data.Dataset.from_tensor_slices(dataset.shards[split])
        return (
            paths.shuffle(len(dataset.shards[split]))
            .interleave(shard_reader, num_parallel_calls=tf.data.AUTOTUNE)
            .shuffle(_SHUFFLE_BUFFER)
        )

    def images_and_labels(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        parsed = parse(serialized, dataset, ("image", "label"))
        return parsed["image"], encode_labels(parsed["label"], dataset, training=True)

    batches = records().batch(batch_size).map(images_and_labels, tf.data.AUTOTUNE)
    policy = tf.data.experimental.service.ShardingPolicy.DYNAMIC
    served = batches.apply(tf.data.experimental.service.distribute(policy, address))
    # Each worker's last batch may be smaller; cut anew, an epoch is ceil(N / batch_size) again.
    epoch = _check_complete(served.rebatch(batch_size), dataset.sizes[split], batch_size)
    return epoch.repeat().prefetch(tf.data.AUTOTUNE)


def watch_service(address: str) -> contextlib.AbstractContextManager[None]:
    """Returns a block that ends with an error if a server of a data service no longer answers.

    TensorFlow would wait for it without end. The servers are the dispatcher and every worker that
    has answered: the dispatcher also lists workers that ended long ago.
    """
    dispatcher = address.removeprefix(SCHEME)
    alive = {dispatcher}

    def find_servers() -> set[str]:
        alive.update(filter(serves, list_workers(dispatcher)))
        return alive

    return keep_asking(
        find_servers,
        serves,
        what="Server {} of the data service",
        advice="Look at its log, start the service again, then continue with --resume.",
    )


def list_workers(dispatcher: str) -> list[str]:
    """Returns HOST:PORT of the workers that a dispatcher knows, also those that have ended.

    Without an answer it returns no workers.
    """
    import grpc

    with grpc.insecure_channel(dispatcher) as channel:
        call = channel.unary_unary("/tensorflow.data.DispatcherService/GetWorkers")
        try:
            reply = call(b"", timeout=_CONNECT_SECONDS)
        except grpc.RpcError:
            return []
    # TensorFlow ships no Python class for the reply, a list of messages with an address each.
    return [text.decode() for text in _ADDRESS.findall(reply)]


def _check_connection(address: str) -> None:
    """Raises an InputError if nothing listens; TensorFlow would wait for an hour."""
    host, _, port = address.removeprefix(SCHEME).rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as err:
        raise InputError(
            f"Cannot connect to the data service at {address}: {err}. Start one with: "
            f"python -m cxr_tfds.commands.data_service dispatcher --port {port}"
        ) from err


def _check_complete(epoch: tf.data.Dataset, size: int, batch_size: int) -> tf.data.Dataset:
    """Makes an epoch of fewer than `size` examples an error: TensorFlow accepts a cut shard."""
    import tensorflow as tf

    def is_complete(number: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        expected = tf.minimum(tf.cast(batch_size, tf.int64), size - number * batch_size)
        return tf.equal(tf.shape(batch[1], tf.int64)[0], expected)

    batches = epoch.enumerate().filter(is_complete).map(lambda number, batch: batch)
    return batches.apply(tf.data.experimental.assert_cardinality(-(-size // batch_size)))
