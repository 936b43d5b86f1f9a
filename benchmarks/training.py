"""Compares the training speed of `cxr-train` with a bare `model.fit` of the same model.

Run: python benchmarks/training.py (pip install -e ".[train]"; about 4 minutes). The model is `edge`
with AdamW on batches of 32 drawn radiographs at 224 x 224, on the devices TensorFlow finds. `fit`
reads arrays in memory and does not augment; `cxr-train` is measured without augmentation and with
its default one. Only steps are timed, including reading: no start, validation or checkpoint.
"""

from __future__ import annotations

import argparse
import functools
import time
from pathlib import Path
from typing import Any, NamedTuple

import measure
from measure import Column, Target


class Workload(NamedTuple):
    """What is trained: image side in pixels, images per batch, training images, data folder."""

    size: int
    batch: int
    images: int
    data: Path

    def dataset(self) -> Any:
        """Opens the built dataset."""
        from cxr_tfds.reading.datasets import open_dataset

        return open_dataset(f"chest_xray_pneumonia/{self.size}", self.data / "built")


FULL = Workload(224, 32, 640, measure.WORK / "training")
TOY = Workload(32, 8, 60, measure.WORK / "training_toy")


def prepare(work: Workload) -> None:
    """Draws radiographs and builds the dataset, unless it exists."""
    if (work.data / "built").is_dir():
        return
    import tensorflow_datasets as tfds

    from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
    from cxr_tfds.building.config import RadiographConfig
    from cxr_tfds.phantom.dataset import images_per_split, write_dataset

    source = work.data / "source"
    write_dataset(source, images=images_per_split(work.images, 40), overwrite=source.exists())
    config = RadiographConfig(name=str(work.size), size=work.size)
    Builder(data_dir=work.data / "built", config=config).download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=source)
    )


class StepTimer:
    """Times training steps for a number of seconds, starting after the first step."""

    def __init__(self, seconds: float, batch: int) -> None:
        self.seconds, self.batch, self.steps = seconds, batch, -1

    def is_over(self) -> bool:
        """Counts a step and returns whether the time is over."""
        self.steps += 1
        if not self.steps:
            self.start, self.cpu = time.perf_counter(), time.process_time()
        self.elapsed = time.perf_counter() - self.start
        return self.steps > 0 and self.elapsed >= self.seconds

    def results(self) -> dict[str, Any]:
        """Returns images per second and processor time per image in ms."""
        cpu, images = time.process_time() - self.cpu, self.steps * self.batch
        return {"images_per_s": images / self.elapsed, "cpu_ms": 1000 * cpu / images}


def measure_fit(work: Workload) -> measure.Measure:
    """Measures Keras's own loop on NumPy arrays."""
    import keras
    import numpy as np

    from cxr_tfds.models import build_model
    from cxr_tfds.training.run import resolve_precision

    dataset = work.dataset()
    batches = list(dataset.batches("train", work.batch).as_numpy_iterator())
    # Only full batches, and enough of them that one measurement is one call of `fit`.
    full = [batch for batch in batches if len(batch[1]) == work.batch] * 10
    images, labels = (np.concatenate(column) for column in zip(*full, strict=True))
    keras.config.set_dtype_policy(resolve_precision("auto"))
    model = build_model("edge", dataset.shape, 1)
    model.compile(
        optimizer=keras.optimizers.AdamW(2e-3, weight_decay=1e-3),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
    )

    def measure_steps(seconds: float) -> dict[str, Any]:
        timer = StepTimer(seconds, work.batch)

        class Stop(keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
                self.model.stop_training = timer.is_over()

        model.fit(images, labels, batch_size=work.batch, verbose=0, callbacks=[Stop()])
        return timer.results()

    measure_steps(0.1)
    return measure_steps


def measure_train(work: Workload, augment: str) -> measure.Measure:
    """Measures what `cxr-train` does within an epoch."""
    import numpy as np

    from cxr_tfds.reading import Shard
    from cxr_tfds.training.distributed import open_devices
    from cxr_tfds.training.learner import Learner
    from cxr_tfds.training.objective import make_loss
    from cxr_tfds.training.progress import Progress
    from cxr_tfds.training.run import resolve_precision
    from cxr_tfds.training.settings import TrainSettings

    dataset, devices = work.dataset(), open_devices()
    settings = TrainSettings(
        dataset=dataset.name,
        data_dir=str(dataset.data_dir),
        batch_size=work.batch,
        augment=augment,
    )
    learner = Learner(
        settings,
        dataset,
        devices,
        policy=resolve_precision(settings.precision),
        loss=make_loss(dataset.task, np.ones(2, np.float32), settings.label_smoothing),
        steps=work.images // work.batch,
    )
    replicas = devices.replicas
    batches = dataset.train(work.batch // replicas, shard=Shard(0, replicas, replicas))
    stream = iter(devices.distribute(batches))

    def measure_steps(seconds: float) -> dict[str, Any]:
        timer = StepTimer(seconds, work.batch)
        learner.begin_epoch(0, [])
        with Progress(0, 1, work.images) as progress:
            while True:
                learner.step(stream)
                progress.advance()
                if timer.is_over():
                    return timer.results()

    measure_steps(0.1)
    return measure_steps


CONTENDERS = {
    "bare fit": ("`model.fit` on arrays in memory", measure_fit),
    "none": ("**cxr-train** `--augment none`", lambda work: measure_train(work, "none")),
    "default": ("**cxr-train**, default augmentation", lambda work: measure_train(work, "default")),
}


def report(found: dict[str, measure.Figures], *, is_toy: bool) -> None:
    """Prints and saves the table and the ratios."""
    result = measure.Report(__file__, is_toy=is_toy)
    columns = [
        Column("way"),
        Column("images/s", ",.1f", spread=True),
        Column("CPU ms an image", ".2f", spread=True),
    ]
    result.table(
        columns,
        [
            (title, found[name]["images_per_s"], found[name]["cpu_ms"])
            for name, (title, _) in CONTENDERS.items()
        ],
    )
    bare, plain, augmented = (found[name] for name in CONTENDERS)
    speed, cpu = (plain[key] / bare[key] for key in ("images_per_s", "cpu_ms"))
    with_augmentation = augmented["images_per_s"] / bare["images_per_s"]
    result.targets(
        [
            Target("images/s, no augmentation ÷ bare fit", speed, ">=", 0.9),
            Target("images/s, augmented ÷ bare fit", with_augmentation, ">=", 0.9, is_main=True),
            Target("CPU time, no augmentation ÷ bare fit", cpu, "<=", 1 / 0.9),
        ]
    )
    result.save()


def main(options: argparse.Namespace) -> None:
    """Runs the benchmark, or one contender in a child process."""
    work = TOY if options.toy else FULL
    calls = {name: functools.partial(make, work) for name, (_, make) in CONTENDERS.items()}
    if options.only == "prepare":
        prepare(work)
    elif options.only:
        measure.serve(calls[options.only]())
    else:
        if options.toy:
            prepare(work)
        else:
            measure.run_once(__file__, "prepare")
        report(measure.compare(__file__, calls, options), is_toy=options.toy)


if __name__ == "__main__":
    parser = measure.options(__doc__)
    parser.set_defaults(seconds=15.0, repeats=4)  # a step takes 0.15 s on two cores
    main(parser.parse_args())
