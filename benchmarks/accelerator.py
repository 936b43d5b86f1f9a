"""Measures reading, augmentation and training on GPUs.

Run: python benchmarks/accelerator.py (pip install -e ".[train,gpu]"; about 10 minutes). A step is
the one of `cxr-train` with the model `edge`, on drawn radiographs of 224 x 224. With --jax it is a
step in JAX, on the device of JAX. Without an accelerator nothing is measured, except with --toy,
which checks on the CPU that the script runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import accelerator_jax
import measure
import training

BATCH = 256  # images of a step on each device
TOY_MODEL = "ct-cnn3"  # quickly traced
STEPS, TOY_STEPS = 20, 1  # queued, then one wait for the device
FULL = training.Workload(224, BATCH, 10 * BATCH, measure.WORK / "accelerator")


@dataclasses.dataclass(frozen=True)
class Step:
    """A way to train; one batch in the memory of the device, unless it `reads` the dataset."""

    title: str
    reads: bool = False
    augment: str = "default"
    precision: str = "auto"
    may_use_xla: bool = True
    is_on_all: bool = False  # devices


READS = {
    "reader": "shuffled batches, read and copied ahead",
    "copy": "one batch, copied again and again",
    "memory": "one batch in device memory",
}
STEPS_OF = {
    "step": Step("as `cxr-train`: mixed precision, XLA, augmentation"),
    "read": Step("the same, on batches of the reader", reads=True),
    "none": Step("without augmentation", augment="none"),
    "float32": Step("in float32", precision="float32"),
    "no_xla": Step("without XLA", may_use_xla=False),
    "float32_no_xla": Step("in float32, without XLA", precision="float32", may_use_xla=False),
    "all": Step("as `cxr-train` on all devices, per device", is_on_all=True),
}
TOY_CONTENDERS = ("read", "all")
RATIOS = [
    ("reader to device ÷ copying one batch", "reader", "copy", 0.97),
    ("step on batches of the reader ÷ in device memory", "read", "step", 0.97),
    ("step with augmentation ÷ without", "step", "none", 0.97),
    ("step in mixed precision ÷ float32", "step", "float32", 1),
    ("step with XLA ÷ without", "step", "no_xla", 1),
    ("step on all devices, per device ÷ on one", "all", "step", 0.9),
]


def find_devices(toy: bool) -> list[str]:
    """Returns the names of all GPUs, or for a toy run of two parts of the CPU."""
    import tensorflow as tf

    if toy:
        parts = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
        return ["CPU:0", "CPU:1"]
    return [f"GPU:{i}" for i in range(len(tf.config.list_physical_devices("GPU")))]


def hide_other_gpus() -> None:
    """Leaves the first GPU, to which batches are copied ahead as on a machine with one."""
    import tensorflow as tf

    tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[:1], "GPU")


def count_steps(work: training.Workload) -> int:
    """Returns the number of steps between two waits for the device."""
    return STEPS if work is FULL else TOY_STEPS


def describe(devices: Sequence[str]) -> list[str]:
    """Returns the model of each GPU, or the name of the device."""
    import tensorflow as tf

    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return [each.get("device_name", "GPU") for each in details] or list(devices)


def draw_batch(work: training.Workload) -> tuple[Any, Any]:
    """Returns images and labels in host memory; their values do not affect the speed."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (work.batch, work.size, work.size, 1), dtype=np.uint8)
    return images, rng.integers(0, 2, (work.batch, 1)).astype(np.float32)


def measure_reading(name: str, work: training.Workload) -> measure.Measure:
    """Measures how fast images arrive at the first device, each used once there."""
    import tensorflow as tf

    from cxr_tfds.reading.pipeline import to_accelerator

    drawn = draw_batch(work)
    if name == "memory":
        batches = itertools.repeat(tuple(tf.identity(part) for part in drawn))
    else:
        repeated = tf.data.Dataset.from_tensors(drawn).repeat()
        dataset = work.dataset().train(work.batch) if name == "reader" else repeated
        batches = iter(to_accelerator(dataset))

    @functools.partial(tf.function, autograph=False, reduce_retracing=True)
    def use(images: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(images, tf.float32))

    def read() -> Iterator[int]:
        while True:
            counts = []
            for _ in range(count_steps(work)):
                images, _ = next(batches)
                counts.append(len(images))
                total = use(images)
            total.numpy()  # waits for the device
            yield sum(counts)

    return measure.rate(read(), warm_up=1)


def measure_step(step: Step, work: training.Workload, devices: Sequence[str]) -> measure.Measure:
    """Measures the training step of `cxr-train`."""
    import numpy as np
    import tensorflow as tf

    from cxr_tfds.reading import Shard
    from cxr_tfds.training.distributed import Devices
    from cxr_tfds.training.learner import Learner
    from cxr_tfds.training.objective import make_loss
    from cxr_tfds.training.run import resolve_precision
    from cxr_tfds.training.settings import TrainSettings

    class StepLearner(Learner):
        def uses_xla(self) -> bool:
            return step.may_use_xla and super().uses_xla()

    is_mirrored = step.is_on_all and len(devices) > 1
    strategy = tf.distribute.MirroredStrategy(devices) if is_mirrored else None
    used = Devices(strategy or tf.distribute.get_strategy())
    dataset, count = work.dataset(), used.replicas
    settings = TrainSettings(
        dataset=dataset.name,
        data_dir=str(dataset.data_dir),
        batch_size=count * work.batch,
        augment=step.augment,
        model="edge" if work is FULL else TOY_MODEL,
    )
    learner = StepLearner(
        settings,
        dataset,
        used,
        policy=resolve_precision(step.precision),
        loss=make_loss(dataset.task, np.ones(2, np.float32), settings.label_smoothing),
        steps=1000,
    )
    learner.begin_epoch(0, [])
    if step.reads:
        shard = Shard(0, count, count)
        batches = iter(used.distribute(dataset.train(work.batch, shard=shard)))
    elif is_mirrored:
        drawn = draw_batch(work)
        values = used.strategy.experimental_distribute_values_from_function
        parts = [values(lambda _, part=part: tf.convert_to_tensor(part)) for part in drawn]
        batches = itertools.repeat(tuple(parts))
    else:
        batches = itertools.repeat(tuple(tf.identity(part) for part in draw_batch(work)))

    def train() -> Iterator[int]:
        while True:
            for _ in range(count_steps(work)):
                learner.step(batches)
            learner.steps_done()  # waits for the device
            yield count_steps(work) * work.batch

    return measure.rate(train(), warm_up=1)


def list_contenders(
    work: training.Workload, devices: Sequence[str]
) -> dict[str, Callable[[], measure.Measure]]:
    """Returns what is measured; all devices together only if there are several."""
    reads = {name: functools.partial(measure_reading, name, work) for name in READS}
    steps = {
        name: functools.partial(measure_step, step, work, devices)
        for name, step in STEPS_OF.items()
        if (len(devices) > 1 or not step.is_on_all) and (work is FULL or name in TOY_CONTENDERS)
    }
    return reads | steps


def report(found: dict[str, measure.Figures], written: measure.Report) -> None:
    """Adds what was measured, next to what is required."""
    speed = {name: figures["images_per_s"] for name, figures in found.items()}
    titles = {name: step.title for name, step in STEPS_OF.items()}
    for header, listed in (("images reach a device", READS), ("training step", titles)):
        rows = [(title, speed[name]) for name, title in listed.items() if name in speed]
        written.table([measure.Column(header), measure.Column("images/s", ",.0f", True)], rows)
    written.targets(
        measure.Target(title, speed[one] / speed[other], ">=", required)
        for title, one, other, required in RATIOS
        if one in speed and other in speed
    )


def main(options: argparse.Namespace) -> None:
    """Runs the benchmark, or in a child process one contender."""
    # Several processes share a GPU, so none may take all of its memory.
    os.environ |= {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    work = training.TOY if options.toy else FULL
    if options.jax:
        os.environ["KERAS_BACKEND"] = "jax"
        accelerator_jax.run(options, work.batch, work.size)
        return
    devices = find_devices(options.toy)
    contenders = list_contenders(work, devices)
    if options.only:
        if options.only != "all":
            hide_other_gpus()
        measure.serve(contenders[options.only]())
        return
    written = measure.Report(__file__, is_toy=options.toy)
    if devices:
        written.note(f"Batches of {work.batch}. Devices: {', '.join(describe(devices))}.")
        training.prepare(work)
        report(measure.compare(__file__, contenders, options), written)
    else:
        written.note(accelerator_jax.NOT_MEASURED)
        print(accelerator_jax.NOT_MEASURED)
    written.save()


if __name__ == "__main__":
    parser = measure.options(__doc__)
    parser.add_argument("--jax", action="store_true", help="Measure on the device of JAX.")
    main(parser.parse_args())
