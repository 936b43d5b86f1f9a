"""A training step equals one of Keras's `fit`; averages and random numbers of a run."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cxr_tfds.models import MODELS, ModelEntry
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.task import Task
from cxr_tfds.training.distributed import Devices
from cxr_tfds.training.learner import Learner
from cxr_tfds.training.objective import make_loss
from cxr_tfds.training.settings import TrainSettings

pytestmark = pytest.mark.slow

SHAPE, STEPS = (32, 32, 1), 4
DATASET = BuiltDataset("drawn/32:1.0.0", SHAPE, ("a", "b"), "stretch", "0", {}, {})


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """Registers a model without dropout."""

    def build(shape, outputs):
        pixels = keras.Input(shape)
        x = keras.layers.Conv2D(4, 5, strides=4)(keras.layers.Rescaling(1 / 255)(pixels))
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        return keras.Model(
            pixels, keras.layers.Dense(1, dtype="float32")(keras.layers.Flatten()(x))
        )

    monkeypatch.setitem(
        MODELS, "plain", ModelEntry(build, "drawn for tests", 32, None, SHAPE, 0, 0)
    )


def learner(**changes):
    settings = {
        "model": "plain",
        "augment": "none",
        "epochs": 1,
        "schedule": "constant",
        "learning_rate": 0.01,
    }
    settings = TrainSettings(dataset="drawn/32", data_dir="nowhere", **settings | changes)
    loss = make_loss(Task.BINARY, np.array([1, 2], np.float32), settings.label_smoothing)
    devices = Devices(tf.distribute.get_strategy())
    return Learner(settings, DATASET, devices, policy="float32", loss=loss, steps=STEPS)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (15, *SHAPE), np.uint8)


@pytest.fixture(scope="module")
def labels():
    return (np.arange(15) % 3 == 0).astype(np.float32)[:, np.newaxis]


def batches(images, labels):
    """Returns four batches of 4, 4, 4 and 3 images."""
    return iter(tf.data.Dataset.from_tensor_slices((images, labels)).batch(4))


def test_steps_equal_those_of_fit(images, labels):
    ours = learner(label_smoothing=0.1, clip_norm=0.5, weight_decay=0.1)
    model = keras.models.clone_model(ours.model)
    model.set_weights(ours.model.get_weights())
    model.compile(
        optimizer=keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.5),
        loss=keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
    )
    weighted = 1 + labels[:, 0]
    history = model.fit(
        images, labels, sample_weight=weighted, batch_size=4, shuffle=False, verbose=0
    )
    ours.begin_epoch(0, [])
    stream = batches(images, labels)
    for _ in range(STEPS):
        ours.step(stream)
    for mine, theirs in zip(ours.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    assert 0 < ours.accuracy() < 1
    assert ours.take_loss() == pytest.approx(history.history["loss"][0], rel=1e-5)


def test_take_loss_starts_again_each_epoch(images, labels):
    ours = learner(learning_rate=1e-9)
    ours.begin_epoch(0, [])
    taken = []
    for _ in range(2):
        stream = batches(images, labels)
        for _ in range(STEPS):
            ours.step(stream)
        taken.append((ours.accuracy(), ours.take_loss()))
    assert taken[1] == pytest.approx(taken[0], rel=1e-4)


def test_moving_average_worked_by_hand(images, labels):
    ours = learner(average=0.3)
    ours.begin_epoch(0, [])
    expected = ours.model.get_weights()
    stream = batches(images, labels)
    for step in range(STEPS):
        ours.step(stream)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = [
            decay * a + (1 - decay) * w
            for a, w in zip(expected, ours.model.get_weights(), strict=True)
        ]
    for kept, by_hand in zip(ours.result_weights(), expected, strict=True):
        np.testing.assert_allclose(kept, by_hand, atol=1e-6)
    assert not np.allclose(ours.result_weights()[0], ours.model.get_weights()[0], atol=1e-6)


def test_result_weights_without_an_average(images, labels):
    ours = learner()
    ours.begin_epoch(0, [])
    ours.step(batches(images, labels))
    for kept, weight in zip(ours.result_weights(), ours.model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, weight)


def test_random_state_follows_from_seed_and_epoch():
    def random_state(epoch, **changes):
        ours = learner(augment_changes={"noise": 0.1}, **changes)
        ours.begin_epoch(epoch, [])
        return [state.numpy().tolist() for state in ours.generators]

    assert random_state(0) == random_state(0)
    assert random_state(0) != random_state(1)
    assert random_state(0) != random_state(0, seed=1)
