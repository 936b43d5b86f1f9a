"""Which training images set the quantization ranges."""

import numpy as np
import pytest
from helpers.splits import load_split

from cxr_tfds.export import representative
from cxr_tfds.export.representative import representative_images
from cxr_tfds.reading.run_data import open_run_dataset
from cxr_tfds.run_folder import RunConfig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(run):
    return open_run_dataset(RunConfig.read(run))


@pytest.mark.parametrize("count", [2, 20, 10_000])
def test_classes_contribute_equally(dataset, count):
    chosen = representative_images(dataset, count)
    assert chosen.dtype == np.uint8
    train = load_split(dataset, "train")
    label_of = {
        image.tobytes(): label for image, label in zip(train.images, train.labels, strict=True)
    }
    labels = [label_of[image.tobytes()] for image in chosen]
    class_sizes = np.bincount(train.labels)
    assert np.bincount(labels).tolist() == [min(count // 2, size) for size in class_sizes]
    assert len({image.tobytes() for image in chosen}) == len(chosen)
    np.testing.assert_array_equal(chosen, representative_images(dataset, count))


def test_both_ends_of_the_pixel_range_are_chosen(dataset):
    train = load_split(dataset, "train").images
    chosen = representative_images(dataset, 6)
    assert (chosen.min(), chosen.max()) == (train.min(), train.max())


def test_choice_worked_by_hand():
    labels = np.array([0, 1] * 50)
    darkest, brightest = np.full(100, 9), np.full(100, 200)
    darkest[30] = brightest[71] = 0
    brightest[4] = 255
    chosen = representative._choose(labels, darkest, brightest, 10)
    assert {4, 30} <= set(chosen.tolist())
    assert np.bincount(labels[chosen]).tolist() == [5, 5]
    assert chosen.tolist() == sorted(set(chosen.tolist()))


def test_an_image_at_both_ends_is_chosen_once():
    darkest, brightest = np.array([5, 0, 5, 5]), np.array([100, 255, 100, 100])
    chosen = representative._choose(np.array([0, 0, 1, 1]), darkest, brightest, 4)
    assert chosen.tolist() == [0, 1, 2, 3]


def test_choice_is_spread_over_the_split():
    labels, darkest = np.zeros(1000, np.int64), np.zeros(1000)
    chosen = representative._choose(labels, darkest, np.full(1000, 255), 100)
    assert chosen[0] < 100
    assert chosen[-1] > 900


def test_findings_contribute_by_the_rarest_one():
    present = np.array([[1, 0, 0], [1, 1, 0], [1, 0, np.nan], [0, 0, 0], [1, 1, 1], [-1, 1, 0]])
    assert representative._rarest_findings(present).tolist() == [0, 1, 0, -1, 2, 1]
