"""Steps by XLA, in mixed precision and on GPUs learn what a plain step on the CPU learns."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from cxr_tfds.models import MODELS, ModelEntry
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.pipeline import to_accelerator
from cxr_tfds.task import Task
from cxr_tfds.training.distributed import Devices
from cxr_tfds.training.learner import Learner
from cxr_tfds.training.objective import make_loss
from cxr_tfds.training.settings import TrainSettings

pytestmark = pytest.mark.slow

GPUS = len(tf.config.list_physical_devices("GPU"))
needs_gpu = pytest.mark.skipif(GPUS < 1, reason="needs a GPU")
needs_gpus = pytest.mark.skipif(GPUS < 2, reason="needs two GPUs")

SHAPE, BATCH, STEPS = (32, 32, 1), 8, 4
DATASET = BuiltDataset("drawn/32:1.0.0", SHAPE, ("a", "b"), "stretch", "0", {}, {})


def build_small(shape, outputs):
    pixels = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 255)(pixels)
    # No bias in front of batch norm: its gradient would be rounding, which Adam enlarges.
    x = keras.layers.Conv2D(4, 5, strides=4, use_bias=False)(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, keras.layers.Dense(outputs, dtype="float32")(x))


def draw_batches(size=BATCH):
    """Returns batches; the last one is smaller."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (STEPS * BATCH - 2, *SHAPE), np.uint8)
    labels = rng.integers(0, 2, (len(images), 1)).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(size)


def train(place="CPU:0", *, xla=False, policy="float32", strategy=None):
    """Returns the weights after an epoch, and its loss."""
    with pytest.MonkeyPatch.context() as patch, tf.device(None if strategy else place):
        patch.setitem(MODELS, "small", ModelEntry(build_small, "drawn", 32, None, SHAPE, 0, 0))
        patch.setattr(Learner, "uses_xla", lambda self: xla)
        settings = TrainSettings(
            dataset="drawn/32",
            data_dir="nowhere",
            model="small",
            augment="none",
            batch_size=BATCH,
            epochs=1,
            schedule="constant",
            learning_rate=1e-2,
            clip_norm=1.0,
            average=0.5,
        )
        loss = make_loss(Task.BINARY, np.ones(2, np.float32), settings.label_smoothing)
        devices = Devices(strategy or tf.distribute.get_strategy())
        learner = Learner(settings, DATASET, devices, policy=policy, loss=loss, steps=STEPS)
        learner.begin_epoch(0, [])
        batches = draw_batches(BATCH // devices.replicas)
        batches = iter(devices.distribute(batches) if strategy else batches)
        for _ in range(STEPS):
            learner.step(batches)
        return learner.result_weights(), learner.take_loss()


plain = functools.cache(train)


@pytest.mark.parametrize("place", ["CPU:0", pytest.param("GPU:0", marks=needs_gpu)])
@pytest.mark.parametrize(
    ("policy", "tolerance"), [("float32", 1e-3), ("mixed_float16", 2e-2)], ids=str
)
def test_a_step_by_xla_learns_what_a_plain_step_learns(place, policy, tolerance):
    weights, loss = train(place, xla=True, policy=policy)
    expected, expected_loss = plain()
    assert loss == pytest.approx(expected_loss, rel=tolerance)
    for mine, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@needs_gpu
def test_batches_are_copied_ahead_unchanged():
    for (ahead, _), (drawn, _) in zip(to_accelerator(draw_batches()), draw_batches(), strict=True):
        assert GPUS > 1 or "GPU" in ahead.device
        np.testing.assert_array_equal(ahead, drawn)


@needs_gpus
@pytest.mark.parametrize(("policy", "tolerance"), [("float32", 1e-3), ("mixed_float16", 2e-2)])
def test_two_gpus_learn_what_the_cpu_learns(policy, tolerance):
    strategy = tf.distribute.MirroredStrategy(["GPU:0", "GPU:1"])
    weights, loss = train(policy=policy, strategy=strategy)
    expected, expected_loss = plain()
    assert loss == pytest.approx(expected_loss, rel=tolerance)
    for mine, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())
