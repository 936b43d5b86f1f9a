"""Measures augmentation: the fused warp against Keras's layers, and its share of a step.

Run: python benchmarks/augment.py (pip install -e ".[train]"; about 3 minutes, on the CPU). With
--jax it measures the shares on the device of JAX, in three precisions. Batches are 32 images of
224 x 224, grey, with random values: the values do not affect the speed.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable

import measure

SIZE, TOY_SIZE, BATCH = 224, 32, 32
STEPS = 8
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


def _images(size: int, batch: int = BATCH):
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 1), dtype=np.uint8)


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


def on_jax(seconds: float, repeats: int, batch: int, size: int) -> None:
    """Prints the speed of a step and the share of augmentation, for each precision."""
    import jax
    import keras

    rows = [("precision", "preset", "images/s", "augmentation's share")]
    verdicts = []
    for precision in PRECISIONS:
        keras.config.set_dtype_policy(precision)
        runs = {preset: _jax_step(preset, batch, size) for preset in ("none", "default")}
        keras.config.set_dtype_policy("float32")
        turns = [
            {preset: run(seconds) for preset, run in runs.items()} for _ in range(repeats + 1)
        ][1:]
        speed = {preset: statistics.median(turn[preset] for turn in turns) for preset in runs}
        share = 1 - statistics.median(turn["default"] / turn["none"] for turn in turns)
        rows.append((precision, "none", f"{speed['none']:,.0f}", ""))
        rows.append((precision, "default", f"{speed['default']:,.0f}", f"{share:.1%}"))
        verdicts.append((f"augmentation's share of a step, {precision}", share, "<=", 0.03))
    print(f"Device: {jax.devices()[0].device_kind}, JAX {jax.__version__}, batch {batch}\n")
    measure.print_table(rows)
    measure.print_verdicts(verdicts)


def _jax_step(preset: str, batch: int, size: int) -> Callable[[float], float]:
    """Compiles a step on one batch in device memory; returns a function that measures images/s."""
    import jax
    import keras

    model = _trainer(preset, size)
    optimizer = keras.optimizers.AdamW(1e-3)
    if keras.config.dtype_policy().name == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    loss_function = keras.losses.BinaryCrossentropy(from_logits=True)
    images, labels = jax.device_put(_images(size, batch)), jax.numpy.zeros((batch, 1))

    @jax.jit
    def step(weights, state, slots):
        def scaled(value):
            return value if not hasattr(optimizer, "scale_loss") else optimizer.scale_loss(value)

        def objective(weights, state):
            logits, state = model.stateless_call(weights, state, images, training=True)
            with keras.StatelessScope(
                state_mapping=list(zip(optimizer.variables, slots, strict=True))
            ):
                return scaled(loss_function(labels, logits)), state

        (_, state), gradients = jax.value_and_grad(objective, has_aux=True)(weights, state)
        weights, slots = optimizer.stateless_apply(slots, gradients, weights)
        return weights, state, slots

    values = tuple(
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            optimizer.variables,
        )
    )
    now = [jax.block_until_ready(step(*values))]

    def run(seconds: float) -> float:
        count, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds:
            for _ in range(20):  # queued, then one wait for the device
                now[0] = step(*now[0])
            jax.block_until_ready(now[0])
            count += 20
        return count * batch / passed

    return run


CONTENDERS: dict[str, Callable[[int], measure.Measure]] = {
    "classic": functools.partial(ours, preset="classic"),
    "default": functools.partial(ours, preset="default"),
    "keras_layers": keras_layers,
    "steps": steps,
}


def report(found: dict[str, measure.Figures]) -> None:
    """Prints what was measured next to what is required."""
    speed = {name: figures["images_per_s"] for name, figures in found.items()}
    titles = {
        "classic": "ours, `classic`, one fused warp",
        "keras_layers": "Keras's flip, shear and zoom layers",
        "default": "ours, `default`",
        "steps": "training step of `edge` with `default`",
    }
    rows = [(title, f"{speed[name]:,.0f}") for name, title in titles.items()]
    measure.print_table([("contender", "images/s"), *rows])
    print(f"`default` alone takes {speed['steps'] / speed['default']:.1%} of that step.\n")
    ratio, share = speed["classic"] / speed["keras_layers"], found["steps"]["share"]
    measure.print_verdicts(
        [
            ("our fused warp ÷ Keras's layers", ratio, ">=", 6),
            ("share of a step that `default` adds, CPU", share, "<=", 0.1),
        ]
    )


def main(options: argparse.Namespace) -> None:
    """Runs the benchmark, or one contender in a child process."""
    size = TOY_SIZE if options.toy else SIZE
    calls = {name: functools.partial(make, size) for name, make in CONTENDERS.items()}
    if options.jax:
        os.environ["KERAS_BACKEND"] = "jax"
        on_jax(options.seconds, options.repeats, options.batch_size, size)
    elif options.only:
        measure.serve(calls[options.only]())
    else:
        report(measure.compare(__file__, calls, options))


if __name__ == "__main__":
    parser = measure.options(__doc__)
    parser.add_argument("--jax", action="store_true", help="Measure shares on the device of JAX.")
    parser.add_argument(
        "--batch-size", type=int, default=BATCH, help="Images in a batch of --jax. [%(default)s]"
    )
    main(parser.parse_args())
