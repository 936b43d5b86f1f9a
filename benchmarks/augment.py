"""Measures augmentation: the fused warp against Keras's layers, and its share of a step.

Run: python benchmarks/augment.py (pip install -e ".[train]"; about 3 minutes, on the CPU). Batches
are 32 images of 224 x 224, grey, with random values: the values do not affect the speed.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import measure
from measure import Column, Target

SIZE, TOY_SIZE, BATCH = 224, 32, 32
STEPS = 8


def _images(size: int):
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 1), dtype=np.uint8)


def alone(layer: Callable, size: int) -> measure.Measure:
    """Applies a layer to one batch in memory again and again, under tf.function as in training."""
    import tensorflow as tf

    images = tf.constant(_images(size))
    # Keras's layers do not accept uint8; ours casts it.
    augment = tf.function(lambda: layer(tf.cast(images, tf.float32), training=True))
    return measure.rate(measure.forever(lambda: [len(augment())]))


def ours(size: int, preset: str) -> measure.Measure:
    """Applies our layer; `classic` consists of the fused warp only."""
    from cxr_tfds.augmentation.augment import Augment

    return alone(Augment(preset, seed=0), size)


def keras_layers(size: int) -> measure.Measure:
    """Applies Keras's layers for `classic`; 0.2 degrees of shear are a factor of 0.0035."""
    from keras import layers

    row = (
        layers.RandomFlip("horizontal"),
        layers.RandomShear(0.0035, 0.0035),
        layers.RandomZoom(0.2, 0.2),
    )

    def apply(images, training: bool):
        for layer in row:
            images = layer(images, training=training)
        return images

    return alone(apply, size)


def steps(size: int) -> measure.Measure:
    """Trains `edge` with the presets `default` and `none`, in turns in one process."""
    import keras
    import numpy as np
    import tensorflow as tf

    images, labels = _images(size), np.zeros((BATCH, 1), np.float32)
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat()
    trainers = {preset: _trainer(preset, size) for preset in ("none", "default")}
    for trainer in trainers.values():
        trainer.compile(optimizer="adam", loss=keras.losses.BinaryCrossentropy(from_logits=True))
        trainer.fit(batches, steps_per_epoch=2, verbose=0)

    def timed(preset: str) -> float:
        start = time.perf_counter()
        trainers[preset].fit(batches, steps_per_epoch=STEPS, verbose=0)
        return time.perf_counter() - start

    def measured(seconds: float) -> measure.Figures:
        rounds = []
        end = time.perf_counter() + 2 * seconds
        while not rounds or time.perf_counter() < end:
            rounds.append((timed("none"), timed("default"), timed("default"), timed("none")))
        without = statistics.median(a + d for a, _, _, d in rounds)
        augmented = statistics.median(b + c for _, b, c, _ in rounds)
        return {"share": 1 - without / augmented, "images_per_s": 2 * STEPS * BATCH / augmented}

    return measured


def _trainer(preset: str, size: int):
    """Returns augmentation and model in one, as `cxr_tfds.training.learner` builds them."""
    import keras

    from cxr_tfds.augmentation.augment import Augment
    from cxr_tfds.models import build_model

    pixels = keras.Input((size, size, 1), dtype="uint8")
    model = build_model("edge", (size, size, 1), 1)
    return keras.Model(pixels, model(Augment(preset, seed=0)(pixels)))


CONTENDERS: dict[str, Callable[[int], measure.Measure]] = {
    "classic": functools.partial(ours, preset="classic"),
    "default": functools.partial(ours, preset="default"),
    "keras_layers": keras_layers,
    "steps": steps,
}


TITLES = {
    "classic": "ours, `classic`, one fused warp",
    "keras_layers": "Keras's flip, shear and zoom layers",
    "default": "ours, `default`",
    "steps": "training step of `edge` with `default`",
}


def report(found: dict[str, measure.Figures], *, is_toy: bool) -> None:
    """Prints and saves what was measured next to what is required."""
    speed = {name: figures["images_per_s"] for name, figures in found.items()}
    result = measure.Report(__file__, is_toy=is_toy)
    result.table(
        [Column("way"), Column("images/s", ",.0f", spread=True)],
        [(title, speed[name]) for name, title in TITLES.items()],
    )
    ratio, share = speed["classic"] / speed["keras_layers"], found["steps"]["share"]
    result.targets(
        [
            Target("our fused warp ÷ Keras's layers", ratio, ">=", 6),
            Target("share of a step that `default` adds, CPU", share, "<=", 0.1, is_main=True),
        ]
    )
    result.save()


def main(options: argparse.Namespace) -> None:
    """Runs the benchmark, or one contender in a child process."""
    size = TOY_SIZE if options.toy else SIZE
    calls = {name: functools.partial(make, size) for name, make in CONTENDERS.items()}
    if options.only:
        measure.serve(calls[options.only]())
    else:
        report(measure.compare(__file__, calls, options), is_toy=options.toy)


if __name__ == "__main__":
    main(measure.options(__doc__).parse_args())
