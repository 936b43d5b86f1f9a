"""The devices of a run: one device, the GPUs of one machine, or the machines in `TF_CONFIG`.

A step takes the same `batch_size` images on any number of devices: each device gets its share, and
gradients and batch-norm statistics are summed over all. Without augmentation, mixup and dropout the
weights differ from a run on one device only by rounding; with them each device draws its own
random numbers. Tested with two logical devices of a CPU and with two processes.
See https://www.tensorflow.org/guide/distributed_training.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from cxr_tfds.deadline import deadlines, keep_asking, serves
from cxr_tfds.errors import InputError
from cxr_tfds.reading.pipeline import to_accelerator
from cxr_tfds.training.cluster import read_cluster, wait_for_all

# What TensorFlow raises in the remaining processes if a machine of the cluster is lost.
_LOST_WORKER_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
)
_START_AGAIN = (
    "Start the same command on all machines again with --resume to continue from the last "
    "checkpoint."
)


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices of a run and the place of this process among the machines."""

    strategy: tf.distribute.Strategy  # the default one for a single device
    worker: int = 0  # number of this process
    workers: int = 1  # number of processes
    others: tuple[str, ...] = ()  # HOST:PORT of the other processes

    @property
    def is_chief(self) -> bool:
        """Whether this process is the chief, which alone writes files."""
        return self.worker == 0

    @property
    def replicas(self) -> int:
        """Number of devices of all machines together."""
        return self.strategy.num_replicas_in_sync

    @property
    def local_replicas(self) -> int:
        """Number of devices of this process."""
        return self.replicas // self.workers

    def check_batch_size(self, batch_size: int) -> None:
        """Raises an InputError if a batch cannot be divided evenly among the devices."""
        if rest := batch_size % self.replicas:
            lower = batch_size - rest
            raise InputError(
                f"batch_size={batch_size}; expected a multiple of {self.replicas}, the number of "
                f"devices, such as {lower or self.replicas} or {lower + self.replicas}."
            )

    def broadcast_from_chief(self, values: list[np.ndarray]) -> list[np.ndarray]:
        """Returns the chief's arrays; every process passes arrays of the same shapes and dtypes."""
        if self.workers == 1:
            return values
        own = [value if self.is_chief else np.zeros_like(value) for value in values]
        results = _broadcast_function(self.strategy)(own)
        return [self.strategy.experimental_local_results(result)[0].numpy() for result in results]

    def distribute(self, batches: tf.data.Dataset) -> Any:
        """Copies endless batches, one for each local device in turn, to the devices ahead."""
        if self.replicas == 1:
            return to_accelerator(batches)
        options = tf.distribute.InputOptions(
            experimental_fetch_to_device=True, experimental_per_replica_buffer_size=2
        )
        # An infinite cardinality spares TensorFlow asking before each step whether every device
        # has a batch.
        endless = batches.apply(
            tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        )
        return self.strategy.distribute_datasets_from_function(lambda _: endless, options)


@functools.cache  # traced once for each strategy
def _broadcast_function(strategy: tf.distribute.Strategy) -> Any:
    def sum_chief_values(values: list[tf.Tensor]) -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        is_first = tf.equal(context.replica_id_in_sync_group, 0)
        own = [tf.where(is_first, value, tf.zeros_like(value)) for value in values]
        return [context.all_reduce(tf.distribute.ReduceOp.SUM, value) for value in own]

    return tf.function(
        lambda values: strategy.run(sum_chief_values, args=(values,)), autograph=False
    )


def watch_machines(addresses: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    """Returns a block that ends with an error if another machine of the run no longer answers."""
    return keep_asking(
        lambda: addresses, serves, what="Machine {} of TF_CONFIG", advice=_START_AGAIN
    )


def open_devices() -> Devices:
    """Joins the machines of `TF_CONFIG`, or returns all GPUs of this machine or its one device."""
    cluster = read_cluster()
    if cluster is not None:
        wait_for_all(cluster)
        # With its coordination service, TensorFlow (2.21) keeps the GIL while it waits for the
        # others, and ignores SIGTERM from then on. An empty type turns it off.
        context.context().configure_coordination_service(service_type="")
        others = tuple(each for i, each in enumerate(cluster.addresses) if i != cluster.worker)
        with deadlines(), watch_machines(others):
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        return Devices(strategy, cluster.worker, len(cluster.addresses), others)
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return Devices(tf.distribute.MirroredStrategy())
    return Devices(tf.distribute.get_strategy())


@contextlib.contextmanager
def explain_lost_worker(devices: Devices) -> Iterator[None]:
    """Raises an InputError that explains what to do if another machine of the run is lost."""
    try:
        yield
    except _LOST_WORKER_ERRORS as err:
        if devices.workers == 1:
            raise
        raise InputError(f"Another machine of TF_CONFIG no longer answers. {_START_AGAIN}") from err
