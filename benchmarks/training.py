"""How fast `cxr-train` trains: its steps beside a bare `model.fit` on arrays in memory, with the same model.

Run: python benchmarks/training.py (pip install -e ".[train]"; about 4 minutes). Batches of 32 drawn
radiographs at 224 x 224 grey, `edge`, AdamW, on whatever TensorFlow finds. `fit` gets no augmentation;
`cxr-train` is measured without and with its default one. What is timed are steps, reading included,
from the end of one to the end of another: no validation, no checkpoint, no start.
"""

from __future__ import annotations

import argparse
import time

import measure

SIZE, BATCH, IMAGES, MODEL = 224, 32, 640, "edge"
DATA = measure.WORK / "training"


def prepare() -> None:
    """Builds the dataset unless it stands there already."""
    if (DATA / "built").is_dir():
        return
    import tensorflow_datasets as tfds

    from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
    from cxr_tfds.phantom.dataset import images_per_split, write_dataset

    write_dataset(
        DATA / "source", images=images_per_split(IMAGES, 40), overwrite=(DATA / "source").exists()
    )
    builder = Builder(data_dir=DATA / "built", config="224")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=DATA / "source")
    )


class Steps:
    """Counts steps for so many seconds, the first not included."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.steps = seconds, -1

    def end(self) -> bool:
        """To be called after each step; whether the time is over."""
        self.steps += 1
        if not self.steps:
            self.start, self.cpu = time.perf_counter(), time.process_time()
        self.passed = time.perf_counter() - self.start
        return self.steps > 0 and self.passed >= self.seconds

    def figures(self) -> measure.Figures:
        cpu = time.process_time() - self.cpu
        images = self.steps * BATCH
        return {"images_per_s": images / self.passed, "cpu_ms": 1000 * cpu / images}


def _dataset():
    from cxr_tfds.reading.datasets import open_dataset
    from cxr_tfds.reading.names import DatasetName

    return open_dataset(DatasetName.parse("chest_xray_pneumonia/224"), DATA / "built")


def fit() -> measure.Measure:
    """Keras's own loop on NumPy arrays."""
    import keras
    import numpy as np

    from cxr_tfds.models import build_model
    from cxr_tfds.training.run import resolve_precision

    dataset = _dataset()
    arrays = zip(*dataset.batches("train", 256).as_numpy_iterator(), strict=True)
    # Whole batches, and so many that a measurement is one call.
    images, labels = (
        np.concatenate([np.concatenate(array)[: IMAGES // BATCH * BATCH]] * 10) for array in arrays
    )
    keras.config.set_dtype_policy(resolve_precision("auto"))
    model = build_model(MODEL, dataset.shape, 2)
    model.compile(
        optimizer=keras.optimizers.AdamW(2e-3, weight_decay=1e-3),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
    )

    def measured(seconds: float) -> measure.Figures:
        steps = Steps(seconds)

        class Stop(keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
                self.model.stop_training = steps.end()

        model.fit(
            images,
            labels,
            batch_size=BATCH,
            verbose=0,
            callbacks=[Stop()],
        )
        return steps.figures()

    measured(1.0)
    return measured


def ours(augment: str) -> measure.Measure:
    """What `cxr-train` does between two epochs' ends."""
    import numpy as np

    from cxr_tfds.reading import Shard
    from cxr_tfds.training.distributed import open_devices
    from cxr_tfds.training.learner import Learner
    from cxr_tfds.training.objective import make_loss
    from cxr_tfds.training.progress import Progress
    from cxr_tfds.training.run import resolve_precision
    from cxr_tfds.training.settings import TrainSettings

    dataset, devices = _dataset(), open_devices()
    settings = TrainSettings(
        dataset=dataset.name,
        data_dir=str(DATA / "built"),
        model=MODEL,
        batch_size=BATCH,
        augment=augment,
    )
    losses = make_loss(np.ones(2, np.float32), settings.label_smoothing)
    policy = resolve_precision(settings.precision)
    learner = Learner(
        settings, dataset, devices, policy=policy, losses=losses, steps=IMAGES // BATCH
    )
    replicas = devices.replicas
    batches = dataset.train(BATCH // replicas, shard=Shard(0, replicas, replicas))
    stream = iter(devices.distribute(batches))

    def measured(seconds: float) -> measure.Figures:
        steps = Steps(seconds)
        learner.begin_epoch(0, [])
        with Progress(0, 1, IMAGES) as progress:
            while True:
                learner.step(stream)
                progress.step()
                if steps.end():
                    return steps.figures()

    measured(1.0)
    return measured


CONTENDERS = {
    "bare fit": ("`model.fit` on arrays in memory", fit),
    "none": ("**cxr-train** `--augment none`", lambda: ours("none")),
    "default": ("**cxr-train**, default augmentation", lambda: ours("default")),
}


def report(found: dict[str, measure.Figures]) -> None:
    rows = [("way", "images/s", "CPU ms an image")]
    for name, (title, _) in CONTENDERS.items():
        rows.append((title, f"{found[name]['images_per_s']:,.1f}", f"{found[name]['cpu_ms']:.2f}"))
    measure.print_table(rows)
    bare = found["bare fit"]
    measure.print_verdicts(
        [
            (
                "images/s, no augmentation ÷ bare fit",
                found["none"]["images_per_s"] / bare["images_per_s"],
                ">=",
                0.9,
            ),
            (
                "images/s, augmented ÷ bare fit",
                found["default"]["images_per_s"] / bare["images_per_s"],
                ">=",
                0.9,
            ),
            (
                "processor time, no augmentation ÷ bare fit",
                found["none"]["cpu_ms"] / bare["cpu_ms"],
                "<=",
                1 / 0.9,
            ),
        ]
    )


def main(arguments: argparse.Namespace) -> None:
    if arguments.only == "prepare":
        prepare()
    elif arguments.only:
        measure.serve(CONTENDERS[arguments.only][1]())
    else:
        measure.run_once(__file__, "prepare")
        report(
            measure.in_turns(
                __file__, CONTENDERS, repeats=arguments.repeats, seconds=arguments.seconds
            )
        )


if __name__ == "__main__":
    parser = measure.options(__doc__)
    parser.set_defaults(seconds=15.0, repeats=4)  # a step takes 0.15 s on two cores
    main(parser.parse_args())
