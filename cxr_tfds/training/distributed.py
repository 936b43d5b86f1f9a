"""Where a run computes: one device, the GPUs of this machine, or several machines that `TF_CONFIG` names.

Whatever the devices, a step takes the same images: `batch_size` of them, of which each device gets its
share; gradients are summed over all, and batch norm takes its statistics over all. Without augmentation, mixup and
dropout the weights differ from those of one device by rounding alone; of these each device draws its own. Tested with
two logical devices of a CPU, and with two processes. See https://www.tensorflow.org/guide/distributed_training.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from cxr_tfds.errors import InputError
from cxr_tfds.reading.pipeline import to_accelerator
from cxr_tfds.training.cluster import read_cluster, wait_for_all

# What TensorFlow raises in those that are left when a machine of the cluster is gone.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
)


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices of a run and this process's place among its machines.

    Attributes:
      strategy: of `tf.distribute`; the default one for one device.
      worker: number of this process, from 0, which is the chief: it alone writes.
      workers: number of processes.
    """

    strategy: tf.distribute.Strategy
    worker: int = 0
    workers: int = 1

    @property
    def chief(self) -> bool:
        return self.worker == 0

    @property
    def replicas(self) -> int:
        """Devices of all machines together."""
        return self.strategy.num_replicas_in_sync

    @property
    def here(self) -> int:
        """Devices of this process."""
        return self.replicas // self.workers

    def check_batch_size(self, batch_size: int) -> None:
        """Raises:
        InputError: the images of a step cannot be shared out evenly.
        """
        if odd := batch_size % self.replicas:
            raise InputError(
                f"batch size {batch_size}; it is shared out to {self.replicas} devices, so give a multiple, such as "
                f"{batch_size - odd or self.replicas} or {batch_size - odd + self.replicas}."
            )

    def broadcast_from_chief(self, values: list[np.ndarray]) -> list[np.ndarray]:
        """The arrays of the chief, in every process; all must call it, with the same shapes and dtypes."""
        if self.workers == 1:
            return values
        own = [value if self.chief else np.zeros_like(value) for value in values]
        shares = _chief_values(self.strategy)(own)
        return [self.strategy.experimental_local_results(share)[0].numpy() for share in shares]

    def distribute(self, batches: tf.data.Dataset) -> Any:
        """Batches, one for each device of this process in turn, as steps take them.

        Each of several devices has its next batches copied to it while it computes, as the one GPU has.
        """
        if self.replicas == 1:
            return to_accelerator(batches)
        options = tf.distribute.InputOptions(
            experimental_fetch_to_device=True, experimental_per_replica_buffer_size=2
        )
        # Told that there is no end, TensorFlow does not ask before each step whether every device has a batch.
        endless = batches.apply(
            tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        )
        return self.strategy.distribute_datasets_from_function(lambda _: endless, options)


@functools.cache
def _chief_values(strategy: tf.distribute.Strategy) -> Any:
    """The values of the chief's first device, in every process; made once, because it is traced."""

    def sum_(values: list[tf.Tensor]) -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        first = tf.equal(context.replica_id_in_sync_group, 0)
        own = [tf.where(first, value, tf.zeros_like(value)) for value in values]
        return [context.all_reduce(tf.distribute.ReduceOp.SUM, value) for value in own]

    return tf.function(lambda values: strategy.run(sum_, args=(values,)), autograph=False)


def open_devices() -> Devices:
    """Joins the machines of `TF_CONFIG`, or takes the GPUs of this one, or its only device.

    Raises:
      InputError: `TF_CONFIG` is not as TensorFlow wants it, or one of its machines does not answer.
    """
    cluster = read_cluster()
    if cluster is not None:
        wait_for_all(cluster, lambda line: print(line, file=sys.stderr))  # noqa: T201
        return Devices(
            tf.distribute.MultiWorkerMirroredStrategy(), cluster.worker, len(cluster.addresses)
        )
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return Devices(tf.distribute.MirroredStrategy())
    return Devices(tf.distribute.get_strategy())


@contextlib.contextmanager
def explain_lost_worker(devices: Devices) -> Iterator[None]:
    """Says what to do where another machine is gone; without machines nothing is changed.

    Raises:
      InputError: this one cannot go on alone.
    """
    try:
        yield
    except _LOST as err:
        if devices.workers == 1:
            raise
        raise InputError(
            "another machine of TF_CONFIG does not answer any more. Start the same command on all of them again, "
            "with --resume: it goes on from the last finished epoch."
        ) from err
