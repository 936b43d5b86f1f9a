"""A model in training: one step on every device, the average of its weights, and all its state.

Keras's `fit` cannot train on several machines (3.15), so there is one loop of our own for all; on one
device it is nearly as fast as `fit`, see `benchmarks/training.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cxr_tfds.augmentation.augment import Augment, mix
from cxr_tfds.models import build_model
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.training.distributed import Devices
from cxr_tfds.training.objective import Losses
from cxr_tfds.training.optimizers import make_optimizer, make_rate, plateau_factor
from cxr_tfds.training.phases import Phase, leaves, phase_of, train_layers
from cxr_tfds.training.settings import TrainSettings

_DRAWS_OF_A_DEVICE = 1 << 24  # more than an epoch draws


class Learner:
    """Steps of one run.

    Args:
      settings: of the run.
      dataset: what it is trained on.
      devices: where.
      policy: Keras dtype policy.
      losses: of each image.
      steps: of an epoch.

    Raises:
      InputError: the model cannot take the images, its weights cannot be had, or no layer is left to train.
    """

    def __init__(
        self,
        settings: TrainSettings,
        dataset: BuiltDataset,
        devices: Devices,
        *,
        policy: str,
        losses: Losses,
        steps: int,
    ) -> None:
        self.settings, self.devices, self.losses, self.steps = settings, devices, losses, steps
        self.policy = policy
        self.phase: Phase | None = None
        keras.utils.set_random_seed(settings.seed)
        keras.config.set_dtype_policy(policy)
        try:
            with devices.strategy.scope():
                self.model = build_model(
                    settings.model, dataset.shape, len(dataset.labels), weights=settings.weights
                )
                self.augment = Augment(settings.augmentation, seed=settings.seed)
                self.trainer = _trainer(self.model, self.augment, dataset.shape)
                self.taken = tf.Variable(0, dtype=tf.int64, trainable=False)
                averaged = self.model.weights if settings.average else []
                self.averages = [
                    tf.Variable(weight.numpy(), trainable=False) for weight in averaged
                ]
                self.totals = _sum(), _sum()  # of the losses, and of the images
        finally:
            keras.config.set_dtype_policy("float32")
        if devices.replicas > 1:
            for layer in leaves(self.model):
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True
        weights = {id(weight) for weight in self.trainer.weights}
        self.generators = [state for state in self.trainer.variables if id(state) not in weights]
        self._reseed = tf.function(self._seed_devices, autograph=False)
        self.enter(
            phase_of(settings, settings.epochs - 1)
        )  # refuses `freeze` before anything is written
        self.enter(phase_of(settings, 0))

    def enter(self, phase: Phase) -> None:
        """Starts `phase` with a new optimizer; nothing changes where it has begun already."""
        if phase == self.phase:
            return
        self.phase = phase
        train_layers(self.model, phase, self.settings.freeze)
        with self.devices.strategy.scope():
            self.rate = make_rate(self.settings, phase.learning_rate, phase.epochs * self.steps)
            self.optimizer = make_optimizer(
                self.settings,
                self.rate,
                scaled=self.policy == "mixed_float16",
                replicas=self.devices.replicas,
            )
            self.optimizer.build(self.model.trainable_variables)
        self._step = self._make_step()

    def begin_epoch(self, epoch: int, val_losses: list[float]) -> None:
        """Phase, rate and drawn numbers follow from `epoch` and what was before it, in a resumed run, too."""
        phase = phase_of(self.settings, epoch)
        self.enter(phase)
        if self.settings.schedule == "plateau":
            self.rate.plateau.assign(
                plateau_factor(val_losses[phase.first_epoch : epoch], phase.learning_rate)
            )
        roots = [
            np.random.SeedSequence([self.settings.seed, epoch, i])
            for i in range(len(self.generators))
        ]
        self._reseed(tf.constant([root.generate_state(1)[0] >> 1 for root in roots], tf.int32))

    def _seed_devices(self, seeds: tf.Tensor) -> None:
        def seed() -> None:
            # Each device draws for images of its own.
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            for i, state in enumerate(self.generators):
                state.assign(
                    tf.cast(tf.stack([seeds[i], replica * _DRAWS_OF_A_DEVICE]), state.dtype)
                )

        self.devices.strategy.run(seed)

    def step(self, batches: Iterator) -> None:
        """Takes the next batch of every device."""
        self._step(batches)

    def _make_step(self) -> Any:
        replicas = self.devices.replicas
        variables = self.model.trainable_variables

        def on_device(inputs: Any, targets: tf.Tensor) -> None:
            context = tf.distribute.get_replica_context()
            images = tf.cast(tf.shape(targets)[0], tf.float32)
            of_all = (
                context.all_reduce(tf.distribute.ReduceOp.SUM, images) if replicas > 1 else images
            )
            with tf.GradientTape() as tape:
                total = tf.reduce_sum(self.losses(targets, self.trainer(inputs, training=True)))
                loss = self.optimizer.scale_loss(total / of_all)
            gradients = tape.gradient(loss, [variable.value for variable in variables])
            if replicas > 1:
                # The optimizer sums them, too, but only after it looked for infinities and clipped: these must
                # come out alike on all devices. So each gives it its part of the sum.
                gradients = [
                    gradient / replicas
                    for gradient in context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
                ]
            self.optimizer.apply(gradients, variables)
            self._average()
            for sum_, value in zip(self.totals, (total, images), strict=True):
                sum_.assign_add(value)

        if self._compiles():
            on_device = tf.function(
                on_device, jit_compile=True, autograph=False, reduce_retracing=True
            )

        def step(batches: Iterator) -> None:
            self.devices.strategy.run(on_device, args=next(batches))

        return tf.function(step, autograph=False)

    def _compiles(self) -> bool:
        """Whether XLA compiles the step, as in Keras's `fit`: on a single GPU; on a CPU it is slower."""
        alone = self.devices.replicas == 1 and bool(tf.config.list_physical_devices("GPU"))
        return alone and all(layer.supports_jit for layer in leaves(self.trainer))

    def _average(self) -> None:
        """Moves the averages towards the weights, faster in the first steps, where they hold what was drawn.

        The course of the decay is that of `tf.train.ExponentialMovingAverage` with `num_updates`.
        """
        if not self.averages:
            return
        taken = tf.cast(self.taken, tf.float32)
        decay = tf.minimum(self.settings.average, (1 + taken) / (10 + taken))
        for average, weight in zip(self.averages, self.model.weights, strict=True):
            average.assign_sub((1 - decay) * (average - weight.value))
        self.taken.assign_add(1)

    def take_loss(self) -> float:
        """Mean loss of the images since it was last asked for."""
        loss, images = (float(total.read_value()) for total in self.totals)
        for total in self.totals:
            total.assign(0.0)
        return loss / images

    def learning_rate(self) -> float:
        """Of the last step taken."""
        return float(self.rate(max(int(self.optimizer.iterations.numpy()) - 1, 0)))

    def kept_weights(self) -> list[np.ndarray]:
        """What is validated, kept and exported: the averages where there are some, or the weights."""
        return [weight.numpy() for weight in self.averages or self.model.weights]

    def state(self) -> list[np.ndarray]:
        """All that a run goes on from; drawn numbers follow from the epoch."""
        return [variable.numpy() for variable in self._variables()]

    def load(self, state: list[np.ndarray]) -> None:
        """Raises:
        ValueError: it is the state of another run.
        """
        for variable, values in zip(self._variables(), state, strict=True):
            variable.assign(values)

    def _variables(self) -> list[Any]:
        return [*self.model.weights, *self.optimizer.variables, *self.averages, self.taken]


def _sum() -> tf.Variable:
    """Each device adds to its own; read, it is the sum over all of them."""
    return tf.Variable(
        0.0,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


def _trainer(model: keras.Model, augment: Augment, shape: tuple[int, int, int]) -> keras.Model:
    """Augmentation and model in one step; with mixup it takes each image's share, too."""
    pixels = keras.Input(shape, dtype="uint8")
    if not augment.settings.mixup:
        return keras.Model(pixels, model(augment(pixels)))
    share = keras.Input((), dtype="float32")
    return keras.Model((pixels, share), model(mix(augment(pixels), share)))
