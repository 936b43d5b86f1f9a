"""Which training images set the ranges."""

import numpy as np
import pytest

from cxr_tfds.evaluation.scoring import open_run_dataset
from cxr_tfds.export import calibration
from cxr_tfds.export.calibration import calibration_images
from helpers.splits import load_split
from cxr_tfds.run_folder import RunConfig


@pytest.fixture(scope="module")
def dataset(run):
    return open_run_dataset(RunConfig.read(run))


@pytest.mark.parametrize("count", [2, 20, 10_000])
def test_as_many_of_each_class_and_from_train(dataset, count):
    chosen = calibration_images(dataset, count)
    assert chosen.dtype == np.uint8
    train = load_split(dataset, "train")
    label_of = {
        image.tobytes(): label for image, label in zip(train.images, train.labels, strict=True)
    }
    labels = [label_of[image.tobytes()] for image in chosen]
    there = np.bincount(train.labels)
    assert np.bincount(labels).tolist() == [min(count // 2, n) for n in there]
    assert len({image.tobytes() for image in chosen}) == len(chosen)
    np.testing.assert_array_equal(chosen, calibration_images(dataset, count))


def test_the_ends_of_the_pixel_range_are_among_them(dataset):
    train = load_split(dataset, "train").images
    chosen = calibration_images(dataset, 6)
    assert (chosen.min(), chosen.max()) == (train.min(), train.max())


def test_choice_worked_by_hand():
    labels = np.array([0, 1] * 50)
    darkest, brightest = np.full(100, 9), np.full(100, 200)
    darkest[30] = brightest[71] = 0
    darkest[71], brightest[30] = 9, 200
    brightest[4] = 255
    chosen = calibration._choose(labels, darkest, brightest, 10)
    assert {4, 30} <= set(chosen.tolist())
    assert np.bincount(labels[chosen]).tolist() == [5, 5]
    assert chosen.tolist() == sorted(set(chosen.tolist()))


def test_one_image_at_both_ends_is_taken_once():
    darkest, brightest = np.array([5, 0, 5, 5]), np.array([100, 255, 100, 100])
    assert calibration._choose(np.array([0, 0, 1, 1]), darkest, brightest, 4).tolist() == [
        0,
        1,
        2,
        3,
    ]


def test_the_choice_is_no_run_of_neighbours():
    chosen = calibration._choose(np.zeros(1000, np.int64), np.zeros(1000), np.full(1000, 255), 100)
    assert chosen[0] < 100
    assert chosen[-1] > 900


def test_progress_is_told(dataset, monkeypatch):
    lines = []
    monkeypatch.setattr(calibration, "_EVERY", 64)
    calibration_images(dataset, 4, lines.append)
    total = dataset.sizes["train"]
    assert lines[-1] == f"choosing calibration images: {total} of {total} training images seen"
