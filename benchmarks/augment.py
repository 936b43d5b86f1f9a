"""What augmentation costs: our fused warp beside Keras's layers in a row, and its share of a training step.

Run: python benchmarks/augment.py (pip install -e ".[train]"; about 3 minutes, on the CPU). With
--jax: the shares on whatever JAX runs on, in three precisions. Batches of 32 of 224 x 224 grey, random
values: what the values are changes nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import measure

SHAPE, BATCH = (224, 224, 1), 32
STEPS = 8
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


def _images(batch: int = BATCH):
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (batch, *SHAPE), dtype=np.uint8)


def alone(layer: Callable) -> measure.Measure:
    """A layer on one batch in memory again and again, under tf.function as in training."""
    import tensorflow as tf

    images = tf.constant(_images())
    # Keras's layers do not take uint8; ours casts by itself.
    augment = tf.function(lambda: layer(tf.cast(images, tf.float32), training=True))
    return measure.rate(measure.forever(lambda: [len(augment())]))


def ours(preset: str) -> measure.Measure:
    """Our layer; the geometry of a preset is one fused warp, and `classic` is nothing else."""
    from cxr_tfds.augmentation.augment import Augment
    from cxr_tfds.augmentation.presets import PRESETS

    return alone(Augment(PRESETS[preset], seed=0))


def keras_layers() -> measure.Measure:
    """The same changes by Keras's own layers; 0.2 degrees of shear are a factor of 0.0035."""
    from keras import layers

    row = (
        layers.RandomFlip("horizontal"),
        layers.RandomShear(0.0035, 0.0035),
        layers.RandomZoom(0.2, 0.2),
    )

    def in_a_row(images, training: bool):
        for layer in row:
            images = layer(images, training=training)
        return images

    return alone(in_a_row)


def steps() -> measure.Measure:
    """A training step of `edge` with the preset `default` and with `none`, by turns in one process."""
    import keras
    import numpy as np
    import tensorflow as tf

    images, labels = _images(), np.zeros((BATCH, 1), np.float32)
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat()
    trainers = {preset: _trainer(preset) for preset in ("none", "default")}
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


def _trainer(preset: str):
    """Augmentation and model in one step, as `cxr_tfds.training.learner` builds it."""
    import keras

    from cxr_tfds.augmentation.augment import Augment
    from cxr_tfds.augmentation.presets import PRESETS
    from cxr_tfds.models import build_model

    pixels = keras.Input(SHAPE, dtype="uint8")
    return keras.Model(
        pixels, build_model("edge", SHAPE, 2)(Augment(PRESETS[preset], seed=0)(pixels))
    )


def on_jax(seconds: float, repeats: int, batch: int) -> None:
    """Prints images/s of a step and augmentation's share of it, for each precision, with the device named."""
    import jax
    import keras

    rows = [("precision", "preset", "images/s", "augmentation's share")]
    verdicts = []
    for precision in PRECISIONS:
        keras.config.set_dtype_policy(precision)
        runs = {preset: _jax_step(preset, batch) for preset in ("none", "default")}
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


def _jax_step(preset: str, batch: int) -> Callable[[float], float]:
    """A compiled step on one batch that lies on the device; the function measures its images/s."""
    import jax
    import keras

    model = _trainer(preset)
    optimizer = keras.optimizers.AdamW(1e-3)
    if keras.config.dtype_policy().name == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    loss_function = keras.losses.BinaryCrossentropy(from_logits=True)
    images, labels = jax.device_put(_images(batch)), jax.numpy.zeros((batch, 1))

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
            for _ in range(20):  # queued; the device is waited for once
                now[0] = step(*now[0])
            jax.block_until_ready(now[0])
            count += 20
        return count * batch / passed

    return run


CONTENDERS: dict[str, Callable[[], measure.Measure]] = {
    "classic": lambda: ours("classic"),
    "default": lambda: ours("default"),
    "keras_layers": keras_layers,
    "steps": steps,
}


def report(found: dict[str, measure.Figures]) -> None:
    """Prints what was measured beside what issue 4 requires."""
    speed = {name: figures["images_per_s"] for name, figures in found.items()}
    rows = [("way", "images/s")]
    for title, name in (
        ("ours, `classic`, one fused warp", "classic"),
        ("Keras's flip, shear and zoom layers", "keras_layers"),
        ("ours, `default`", "default"),
        ("training step of `edge` with `default`", "steps"),
    ):
        rows.append((title, f"{speed[name]:,.0f}"))
    measure.print_table(rows)
    print(
        f"`default` alone takes {speed['steps'] / speed['default']:.1%} of the time of that step.\n"
    )
    measure.print_verdicts(
        [
            ("our fused warp ÷ Keras's layers", speed["classic"] / speed["keras_layers"], ">=", 6),
            (
                "part of a step that is gone without `default`, CPU",
                found["steps"]["share"],
                "<=",
                0.1,
            ),
        ]
    )


def main(arguments: argparse.Namespace) -> None:
    if arguments.jax:
        os.environ["KERAS_BACKEND"] = "jax"
        on_jax(arguments.seconds, arguments.repeats, arguments.batch_size)
    elif arguments.only:
        measure.serve(CONTENDERS[arguments.only]())
    else:
        report(
            measure.in_turns(
                __file__, CONTENDERS, repeats=arguments.repeats, seconds=arguments.seconds
            )
        )


if __name__ == "__main__":
    parser = measure.options(__doc__)
    parser.add_argument(
        "--jax", action="store_true", help="Shares of a step on JAX's device, in three precisions."
    )
    parser.add_argument("--batch-size", type=int, default=BATCH, help="Of --jax. [%(default)s]")
    main(parser.parse_args())
