"""Images of a split are streamed: few batches are in memory at a time."""

import weakref

import numpy as np
import pytest

from cxr_tfds.export import inference

BATCHES, SIZE = 2000, 64


class FakeBatches:
    """Yields batches of 64 images and counts those that someone still holds."""

    def __init__(self):
        self.alive = weakref.WeakSet()
        self.most_alive = self.read = 0

    def __call__(self, dataset, split):
        for number in range(BATCHES):
            batch = Batch(number)
            self.alive.add(batch)
            self.read += 1
            self.most_alive = max(self.most_alive, len(self.alive))
            yield batch.images, np.full(SIZE, number % 2)
            del batch


class Batch:
    """Its images keep it alive: they are views of the memory it holds."""

    def __init__(self, number):
        self.array = np.full((SIZE, 8, 8, 1), number % 256, np.uint8)

    @property
    def __array_interface__(self):
        return self.array.__array_interface__

    @property
    def images(self):
        return np.asarray(self)


class FakeDataset:
    shape = (8, 8, 1)


@pytest.fixture
def batches(monkeypatch):
    fake = FakeBatches()
    monkeypatch.setattr(inference, "image_batches", fake)
    return fake


def mean_logits(images):
    return {"Keras": images.mean(axis=(1, 2)).astype(np.float32), "int8": np.ones((SIZE, 3))}


def test_the_fake_counts_batches_that_are_held(batches):
    held = [images for images, _ in batches(FakeDataset, "validation")]
    assert len(held) == batches.most_alive == BATCHES


def test_predict_split_streams(batches):
    labels, outputs = inference.predict_split(FakeDataset, "validation", mean_logits)
    assert batches.most_alive <= 3
    assert labels.shape == outputs["Keras"].shape == (BATCHES * SIZE,)
    assert outputs["int8"].shape == (BATCHES * SIZE, 3)
    np.testing.assert_array_equal(outputs["Keras"][::SIZE], np.arange(BATCHES) % 256)
    np.testing.assert_array_equal(labels[::SIZE], np.arange(BATCHES) % 2)


def test_pick_images_streams(batches):
    numbers = np.array([0, 63, 64, 1000, BATCHES * SIZE - 1])
    picked = inference.pick_images(FakeDataset, "validation", numbers)
    assert batches.most_alive <= 3
    assert picked[:, 0, 0, 0].tolist() == [0, 0, 1, 15, (BATCHES - 1) % 256]


def test_pick_images_stops_after_the_last(batches):
    inference.pick_images(FakeDataset, "validation", np.array([70]))
    assert batches.read == 2
