"""The cut by patient on the file names of the Kaggle pneumonia set."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from helpers.kaggle_names import read_kaggle_names

from cxr_tfds.building.splits import patient_splits
from cxr_tfds.sources import SourceImage


@pytest.fixture(scope="module")
def images() -> list[SourceImage]:
    return read_kaggle_names()


def test_patient_splits_share_no_patient(images: list[SourceImage]) -> None:
    splits = patient_splits(images)
    patients = [{image.patient_id for image in splits[split]} for split in splits]
    assert "" not in set.union(*patients)
    for first, second in itertools.combinations(patients, 2):
        assert first.isdisjoint(second)


def test_patient_splits_cut_a_tenth_of_each_class(images: list[SourceImage]) -> None:
    splits = patient_splits(images)
    assert sum(map(len, splits.values())) == len(images) == 5232
    assert splits["test"] == [image for image in images if image.split == "test"]
    validation = Counter(image.label for image in splits["validation"])
    train = Counter(image.label for image in splits["train"])
    assert set(train) == {"NORMAL", "PNEUMONIA"}
    for label, count in train.items():
        assert 0.099 < validation[label] / (validation[label] + count) < 0.11


def test_patient_splits_do_not_depend_on_the_order(images: list[SourceImage]) -> None:
    splits, reverse = patient_splits(images), patient_splits(images[::-1])
    for split in ("train", "validation", "test"):
        ids = {image.image_id for image in splits[split]}
        assert ids == {image.image_id for image in reverse[split]}
