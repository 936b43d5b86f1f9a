"""Checks of the labels before training, and findings as the target."""

import dataclasses
import re

import numpy as np
import pytest
from helpers.splits import load_split

from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.names import DatasetName
from cxr_tfds.reading.run_data import open_run_dataset
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.training import labels
from cxr_tfds.training import run as training
from cxr_tfds.training.labels import check_labels
from cxr_tfds.training.settings import TrainSettings

NAME = "chest_xray_pneumonia/64"


@pytest.fixture
def dataset(built):
    return open_dataset(DatasetName.parse(NAME), built)


@pytest.fixture
def stored(monkeypatch):
    """Returns a function that replaces the labels of splits."""

    def put(**splits):
        monkeypatch.setattr(
            labels, "read_columns", lambda dataset, split, _: {"label": np.array(splits[split])}
        )

    return put


def test_counts_training_images_of_each_class(dataset):
    expected = np.bincount(load_split(dataset, "train").labels)
    np.testing.assert_array_equal(check_labels(dataset), expected)


GOOD = [0, 1, 1]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {"train": [0, 0], "validation": GOOD, "test": GOOD},
            "Split 'train' of chest_xray_pneumonia/64:1.0.0 has no image of PNEUMONIA "
            "(NORMAL 2, PNEUMONIA 0), so it cannot be learned. Add such images",
        ),
        (
            {"train": GOOD, "validation": [0], "test": GOOD},
            "Split 'validation' of chest_xray_pneumonia/64:1.0.0 has no image of PNEUMONIA "
            "(NORMAL 1, PNEUMONIA 0), so the AUC is undefined.",
        ),
        (
            {"train": GOOD, "validation": GOOD, "test": [1]},
            "Split 'test' of chest_xray_pneumonia/64:1.0.0 has no image",
        ),
        (
            {"train": [0, 1, -1, -1], "validation": GOOD, "test": GOOD},
            "2 of 4 images in split 'train' of chest_xray_pneumonia/64:1.0.0 have an unknown "
            "label; expected one of",
        ),
    ],
)
def test_refuses_unusable_labels(dataset, stored, splits, message):
    stored(**splits)
    with pytest.raises(InputError) as caught:
        check_labels(dataset)
    assert str(caught.value).startswith(message)


def test_refuses_unknown_findings(dataset, stored):
    stored(train=[0, 1, 2, -1], validation=[0, 1, 2], test=[0, 1, 2])
    with pytest.raises(
        InputError,
        match=r"^1 of 4 images in split 'train' .* unknown finding.*or train with --target label",
    ):
        check_labels(dataset.targeted("finding"))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_refuses_a_missing_split(dataset, split):
    shard_sizes = {name: sizes for name, sizes in dataset.shard_sizes.items() if name != split}
    with pytest.raises(InputError, match=f"has no split '{split}'"):
        check_labels(dataclasses.replace(dataset, shard_sizes=shard_sizes))


def test_refuses_findings_that_the_dataset_lacks(dataset):
    assert dataset.targeted("label") == dataset
    with pytest.raises(
        InputError, match=re.escape("has no target 'finding'; it has 0 findings and a label.")
    ):
        dataclasses.replace(dataset, findings=()).targeted("finding")


def test_reads_findings_as_labels(dataset):
    view = dataset.targeted("finding")
    assert view.labels == ("NORMAL", "bacteria", "virus")
    whole = load_split(dataset, "train")
    np.testing.assert_array_equal(load_split(view, "train").labels, whole.findings)
    assert set(whole.findings) == {0, 1, 2}
    of_image = {
        image.tobytes(): finding
        for image, finding in zip(whole.images, whole.findings, strict=True)
    }
    assert len(of_image) == len(whole.images)
    batches = view.train(11).take(6)
    seen = 0
    for images, wanted in batches.as_numpy_iterator():
        assert wanted.dtype == np.float32
        findings = [of_image[image.tobytes()] for image in images]
        np.testing.assert_array_equal(wanted, np.eye(3)[findings])
        seen += len(images)
    assert seen == 66


@pytest.mark.slow
def test_run_on_findings_is_measured_on_findings(built, tiny_model, tmp_path):
    settings = TrainSettings(
        dataset=NAME,
        data_dir=str(built),
        target="finding",
        model=tiny_model,
        epochs=1,
        batch_size=8,
        augment="none",
    )
    measured = training.run_training(settings, tmp_path)
    assert measured["test"]["images"] == 40
    config = RunConfig.read(tmp_path)
    assert config.labels == ("NORMAL", "bacteria", "virus")
    view = open_run_dataset(config)
    assert (view.target, view.labels) == ("finding", config.labels)
