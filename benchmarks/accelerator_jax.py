"""Measures augmentation and a training step on the device of JAX, for `accelerator.py --jax`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import measure
from tables import Median

NOT_MEASURED = "Not measured on an accelerator: none was available."
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
PRESETS = ("none", "default")  # of augmentation
STEPS = 20  # queued, then one wait for the device


def run(options: argparse.Namespace, batch: int, size: int) -> None:
    """Measures a step with and without augmentation in each precision, unless there is only a CPU.

    `batch` is the number of images of a step, `size` their side in pixels.
    """
    import jax

    written = measure.Report(__file__, is_toy=options.toy)
    device = jax.devices()[0]
    if device.platform == "cpu" and not options.toy:
        written.note(NOT_MEASURED)
        print(NOT_MEASURED)
    else:
        written.note(f"Batches of {batch}. Device: {device.device_kind}, JAX {jax.__version__}.")
        seconds, repeats = (0.01, 1) if options.toy else (options.seconds, options.repeats)
        report(_measure_steps(seconds, repeats, batch, size), written)
    written.save()


def report(found: dict[str, dict[str, Median]], written: measure.Report) -> None:
    """Adds images/s by precision and augmentation, next to what is required."""
    columns = [measure.Column("precision"), measure.Column("augmentation")]
    written.table(
        [*columns, measure.Column("images/s", ",.0f", True)],
        [(name, preset, speed[preset]) for name, speed in found.items() for preset in PRESETS],
    )
    written.targets(
        measure.Target(
            f"step with augmentation ÷ without, {name}",
            speed["default"] / speed["none"],
            ">=",
            0.97,
        )
        for name, speed in found.items()
    )


def _measure_steps(
    seconds: float, repeats: int, batch: int, size: int
) -> dict[str, dict[str, Median]]:
    """Returns the images/s of each precision and augmentation; the first turn does not count."""
    import keras

    found = {}
    for precision in PRECISIONS:
        keras.config.set_dtype_policy(precision)
        steps = {preset: _compile_step(preset, batch, size) for preset in PRESETS}
        keras.config.set_dtype_policy("float32")
        turns = [{name: step(seconds) for name, step in steps.items()} for _ in range(repeats + 1)]
        found[precision] = {name: Median(turn[name] for turn in turns[1:]) for name in steps}
    return found


def _compile_step(preset: str, batch: int, size: int) -> Callable[[float], float]:
    """Compiles a step on one batch in device memory; returns a function that measures images/s."""
    import jax
    import keras
    import numpy as np

    from cxr_tfds.augmentation.augment import Augment
    from cxr_tfds.models import build_model

    shape = (size, size, 1)
    pixels = keras.Input(shape, dtype="uint8")
    model = keras.Model(pixels, build_model("edge", shape, 1)(Augment(preset, seed=0)(pixels)))
    optimizer = keras.optimizers.AdamW(1e-3)
    if keras.config.dtype_policy().name == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    loss_function = keras.losses.BinaryCrossentropy(from_logits=True)
    drawn = np.random.default_rng(0).integers(0, 256, (batch, *shape), dtype=np.uint8)
    images, labels = jax.device_put(drawn), jax.numpy.zeros((batch, 1))

    @jax.jit
    def step(weights, state, slots):
        def objective(weights, state):
            logits, state = model.stateless_call(weights, state, images, training=True)
            with keras.StatelessScope(
                state_mapping=list(zip(optimizer.variables, slots, strict=True))
            ):
                return optimizer.scale_loss(loss_function(labels, logits)), state

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
        while (passed := time.perf_counter() - start) < seconds or not count:
            for _ in range(STEPS):
                now[0] = step(*now[0])
            jax.block_until_ready(now[0])
            count += STEPS
        return count * batch / passed

    return run
