"""The training step on every device, the moving average of the weights, and the state to resume.

Keras's `fit` cannot train on several machines (3.15), so this project has its own loop. On one
device it is nearly as fast as `fit`, see `benchmarks/training.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cxr_tfds.augmentation.augment import Augment, mix
from cxr_tfds.models import build_model
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.training.distributed import Devices
from cxr_tfds.training.objective import LossFunction, count_correct
from cxr_tfds.training.optimizers import Rate, make_optimizer, plateau_factor
from cxr_tfds.training.phases import Phase, iterate_layers, phase_of, set_trainable_layers
from cxr_tfds.training.profile import Profile
from cxr_tfds.training.settings import TrainSettings

_DRAWS_PER_DEVICE = 1 << 24  # more random numbers than a device draws in an epoch


class Learner:
    """A model in training; `model` is the Keras model without augmentation."""

    def __init__(
        self,
        settings: TrainSettings,
        dataset: BuiltDataset,
        devices: Devices,
        *,
        policy: str,
        loss: LossFunction,
        steps: int,
        profile: Profile | None = None,
    ) -> None:
        self.settings, self.devices, self.loss, self.steps = settings, devices, loss, steps
        self.profile = profile or Profile(wanted=False)
        self.policy, self.task = policy, dataset.task
        self.phase: Phase | None = None
        keras.utils.set_random_seed(settings.seed)
        keras.config.set_dtype_policy(policy)
        try:
            with devices.strategy.scope():
                self.model = build_model(
                    settings.model, dataset.shape, dataset.outputs, weights=settings.weights
                )
                self.augment = Augment(settings.augmentation, seed=settings.seed)
                self.trainer = _with_augmentation(self.model, self.augment, dataset.shape)
                averaged = self.model.weights if settings.average else []
                self.averages = [tf.Variable(w.numpy(), trainable=False) for w in averaged]
                self._steps_done = tf.Variable(0, dtype=tf.int64, trainable=False)
                # Loss, images or findings that count, and correct ones. Every device has the sums
                # over all devices, so that the chief can save them without the others.
                self._sums = tf.Variable(tf.zeros(3), trainable=False)
        finally:
            keras.config.set_dtype_policy("float32")
        if devices.replicas > 1:
            for layer in iterate_layers(self.model):
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True
        weights = {id(weight) for weight in self.trainer.weights}
        self.generators = [state for state in self.trainer.variables if id(state) not in weights]
        self._reseed = tf.function(self._seed_devices, autograph=False)
        # Entering the last phase first refuses a wrong `freeze` before anything is written.
        self.enter(phase_of(settings, settings.epochs - 1))
        self.enter(phase_of(settings, 0))

    def enter(self, phase: Phase) -> None:
        """Starts `phase` with a new optimizer, unless it is the current phase."""
        if phase == self.phase:
            return
        self.phase = phase
        set_trainable_layers(self.model, phase, self.settings.freeze)
        with self.devices.strategy.scope():
            self.rate = Rate(self.settings, phase.learning_rate, phase.epochs * self.steps)
            scaled, replicas = self.policy == "mixed_float16", self.devices.replicas
            self.optimizer = make_optimizer(
                self.settings, self.rate, scaled=scaled, replicas=replicas
            )
            self.optimizer.build(self.model.trainable_variables)
        self._step = self._make_step()

    def begin_epoch(self, epoch: int, val_losses: list[float]) -> None:
        """Sets phase, learning rate and random seeds from the epoch number and earlier losses."""
        phase = phase_of(self.settings, epoch)
        self.enter(phase)
        if self.settings.schedule == "plateau":
            self.rate.plateau.assign(
                plateau_factor(val_losses[phase.first_epoch : epoch], phase.learning_rate)
            )
        entropy = ([self.settings.seed, epoch, i] for i in range(len(self.generators)))
        seeds = [np.random.SeedSequence(each).generate_state(1)[0] >> 1 for each in entropy]
        self._set_generators([(seed, 0) for seed in seeds])

    def _set_generators(self, states: Sequence[Any]) -> None:
        """Sets each random generator to its seed and its number of draws on the first device."""
        self._reseed(tf.constant(np.reshape(states, (-1, 2)), tf.int64))

    def _seed_devices(self, states: tf.Tensor) -> None:
        def seed() -> None:
            # Each device has its own images, so it draws its own random numbers.
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            skipped = tf.stack([0, tf.cast(replica, tf.int64) * _DRAWS_PER_DEVICE])
            for i, state in enumerate(self.generators):
                state.assign(tf.cast(states[i] + skipped, state.dtype))

        self.devices.strategy.run(seed)

    def step(self, batches: Iterator) -> None:
        """Trains on the next batch of every device."""
        self._step(batches)

    def _make_step(self) -> Any:
        replicas = self.devices.replicas
        variables = self.model.trainable_variables

        def on_device(inputs: Any, targets: tf.Tensor) -> None:
            context = tf.distribute.get_replica_context()
            with tf.GradientTape() as tape:
                logits = self.trainer(inputs, training=True)
                loss_sum, counted = self.loss(targets, logits)
                sums = [loss_sum, counted, count_correct(self.task, targets, logits)]
                sums = tf.stop_gradient(tf.stack(sums))
                if replicas > 1:
                    sums = context.all_reduce(tf.distribute.ReduceOp.SUM, sums)
                # No finding of a batch may count.
                loss = self.optimizer.scale_loss(loss_sum / tf.maximum(sums[1], 1))
            gradients = tape.gradient(loss, [variable.value for variable in variables])
            if replicas > 1:
                # The optimizer sums gradients too, but only after it has looked for infinities and
                # clipped, which must be the same on all devices. So each device passes an equal
                # part of the sum.
                gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
                gradients = [gradient / replicas for gradient in gradients]
            self.optimizer.apply(gradients, variables)
            self._update_averages()
            self._steps_done.assign_add(1)
            self._sums.assign_add(sums)

        if self.uses_xla():
            on_device = tf.function(
                on_device, jit_compile=True, autograph=False, reduce_retracing=True
            )

        def step(batches: Iterator) -> None:
            self.devices.strategy.run(on_device, args=self.profile.next_batch(batches))

        return tf.function(step, autograph=False)

    def uses_xla(self) -> bool:
        """Returns whether XLA compiles the step: on a single GPU, as in `fit`; slower on a CPU."""
        one_gpu = self.devices.replicas == 1 and bool(tf.config.list_physical_devices("GPU"))
        return one_gpu and all(layer.supports_jit for layer in iterate_layers(self.trainer))

    def _update_averages(self) -> None:
        """Moves the averages towards the weights.

        The decay grows from 0.1 to the setting as in `tf.train.ExponentialMovingAverage` with
        `num_updates`, so that the random initial weights are soon forgotten.
        """
        if not self.averages:
            return
        steps = tf.cast(self._steps_done, tf.float32)
        decay = tf.minimum(self.settings.average, (1 + steps) / (10 + steps))
        for average, weight in zip(self.averages, self.model.weights, strict=True):
            average.assign_sub((1 - decay) * (average - weight.value))

    def steps_done(self) -> int:
        """Returns the number of finished steps of the run; waits for the devices."""
        return int(self._steps_done.numpy())

    def accuracy(self) -> float:
        """Returns the fraction that is predicted correctly since the last `take_loss`."""
        _, counted, correct = map(float, self._sums.numpy())
        return correct / max(counted, 1)

    def take_loss(self) -> float:
        """Returns the mean loss per image, or per finding that counts, since the last call."""
        loss, counted, _ = map(float, self._sums.numpy())
        self._sums.assign(tf.zeros(3))
        return loss / max(counted, 1)

    def learning_rate(self) -> float:
        """Returns the learning rate of the last step."""
        return float(self.rate(max(int(self.optimizer.iterations.numpy()) - 1, 0)))

    def result_weights(self) -> list[np.ndarray]:
        """Returns the weights to validate and save: the averages, or else the weights."""
        return [weight.numpy() for weight in self.averages or self.model.weights]

    def state(self) -> list[np.ndarray]:
        """Returns all arrays a run resumes from, after any step and for any number of devices.

        They are in the memory of this process, so the chief needs no other machine for them.
        """
        return [variable.numpy() for variable in (*self._variables(), *self.generators)]

    def load(self, state: list[np.ndarray]) -> None:
        """Restores what `state` returned."""
        variables = self._variables()
        for variable, values in zip(variables, state, strict=False):
            variable.assign(values)
        self._set_generators(state[len(variables) :])

    def _variables(self) -> list[Any]:
        optimizer = self.optimizer.variables
        return [*self.model.weights, *optimizer, *self.averages, self._steps_done, self._sums]


def _with_augmentation(
    model: keras.Model, augment: Augment, shape: tuple[int, int, int]
) -> keras.Model:
    """Returns `model` behind the augmentation; with mixup it takes each image's share too."""
    pixels = keras.Input(shape, dtype="uint8")
    if not augment.settings.mixup:
        return keras.Model(pixels, model(augment(pixels)))
    share = keras.Input((), dtype="float32")
    return keras.Model((pixels, share), model(mix(augment(pixels), share)))
