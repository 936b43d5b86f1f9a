"""Measures where the time of a run goes, for `cxr-train --profile`. Loads no TensorFlow by itself.

Every second of the run belongs to one stage. Devices work ahead of Python, so steps are not timed
one by one: an epoch is, and the compiled step measures how long it waits for its batch. The
augmentation is a part of that step. It is timed apart, after the training.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cxr_tfds.parallel import core_count
from cxr_tfds.run_profile import (
    AUGMENTATION,
    FIRST_STEP,
    MEASURING,
    READING,
    STAGES,
    START,
    STEP,
    ProfileTable,
    find_bottleneck,
)

if TYPE_CHECKING:
    from cxr_tfds.training.learner import Learner

_READY = 0.1  # longest wait for a batch that was ready, as a part of the step before
_CALLS = 5  # of the augmentation


class Profile:
    """The stages of a run, from the moment the object is made.

    With `wanted=False` it measures only the stages, which costs microseconds an epoch.
    """

    def __init__(self, *, wanted: bool = True) -> None:
        self.wanted = wanted
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._cpu_seconds = dict.fromkeys(STAGES, 0.0)  # of all threads of the process
        self._steps = 0  # without the first of each phase
        self._augmentation_s = 0.0
        self._phase: Any = None  # whose first step was taken
        self._stage, self._since, self._cpu_since = START, time.perf_counter(), time.process_time()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time of the block, without the stages within it."""
        outer = self._stage
        self._switch(name)
        try:
            yield
        finally:
            self._switch(outer)

    def _switch(self, name: str) -> None:
        now, cpu = time.perf_counter(), time.process_time()
        self._seconds[self._stage] += now - self._since
        self._cpu_seconds[self._stage] += cpu - self._cpu_since
        self._stage, self._since, self._cpu_since = name, now, cpu

    def begin(self) -> None:
        """Prepares the measurements that need TensorFlow, before the step is compiled."""
        if self.wanted:
            import tensorflow as tf

            from cxr_tfds.training.gpu import GpuMeter

            self._gpu = GpuMeter()
            with tf.device("CPU:0"):
                # Seconds, the number of steps that found their batch ready, and when the last
                # step had its batch.
                self._waits = tf.Variable(tf.zeros(3, tf.float64), trainable=False)

    def next_batch(self, batches: Iterator) -> Any:
        """Returns the next batch, within the compiled step."""
        if not self.wanted:
            return next(batches)
        import tensorflow as tf

        before = tf.timestamp()
        with tf.control_dependencies([before]):
            batch = next(batches)
        with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
            now = tf.timestamp()
        seconds, ready, last = tf.unstack(self._waits)
        is_ready = now - before < _READY * (before - last)
        ready += tf.cast(is_ready, tf.float64)
        self._waits.assign(tf.stack([seconds + now - before, ready, now]))
        return batch

    def step(self, learner: Learner, batches: Iterator) -> None:
        """Trains on the next batch; the first step of a phase is a stage of its own."""
        if not self.wanted:
            learner.step(batches)
        elif learner.phase == self._phase:
            learner.step(batches)
            self._steps += 1
            self._gpu.sample()
        else:
            seconds, ready, _ = self._waits.numpy()
            with self.stage(FIRST_STEP):
                learner.step(batches)
                learner.steps_done()  # waits for the device
            self._waits.assign([seconds, ready, self._waits.numpy()[2]])
            self._phase = learner.phase

    def time_augmentation(self, learner: Learner, batches: Iterator) -> None:
        """Times the augmentation of a batch of one device, compiled as in the step."""
        if not self.wanted:
            return
        import tensorflow as tf

        with self.stage(MEASURING):
            images = tf.nest.flatten(next(batches), expand_composites=True)[0]
            augment = tf.function(learner.augment, autograph=False, jit_compile=learner.uses_xla())
            seconds = []
            for _ in range(1 + _CALLS):
                start = time.perf_counter()
                float(augment(images)[0, 0, 0, 0])  # waits for the device
                seconds.append(time.perf_counter() - start)
            self._augmentation_s = statistics.median(seconds[1:])

    def table(self) -> ProfileTable:
        """Returns what was measured until now."""
        self._switch(self._stage)
        seconds = dict(self._seconds)
        steps, cores = self._steps, core_count()
        trained = seconds[STEP]
        waited, ready, _ = map(float, self._waits.numpy())
        seconds[READING] = min(waited, trained)
        seconds[AUGMENTATION] = min(self._augmentation_s * steps, trained - seconds[READING])
        seconds[STEP] = trained - seconds[READING] - seconds[AUGMENTATION]
        return {
            "seconds": seconds,
            "steps": steps,
            "augmentation_ms": 1000 * self._augmentation_s,
            "batches_ready": ready / steps if steps else None,
            "cores": cores,
            "processor": min(self._cpu_seconds[STEP] / trained / cores, 1.0) if steps else None,
            "gpus": self._gpu.names,
            "gpu": self._gpu.busy(),
            "gpu_bytes": self._gpu.peak_bytes(),
            "bottleneck": find_bottleneck(seconds, has_gpu=bool(self._gpu.names)),
        }
