"""Tests the cut of splits: complete patients, the wanted share, the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cxr_tfds.building.splits import (
    TEST_FRACTION,
    VALIDATION_FRACTION,
    check_no_shared_patients,
    find_shared_patients,
    patient_splits,
    source_splits,
    validation_ids,
)
from cxr_tfds.errors import InputError
from cxr_tfds.sources import SourceImage


def make_image(image_id: str, patient_id: str, label: str) -> SourceImage:
    return SourceImage(Path(image_id), "train", label, image_id, patient_id=patient_id)


def draw(patients: int, *, label: str, seed: int, most: int = 4) -> list[SourceImage]:
    """Returns 1 to `most` images of each patient."""
    rng = np.random.default_rng(seed)
    return [
        make_image(f"train/{label}/{label}-{patient}-{image}.jpeg", f"{label}-{patient}", label)
        for patient in range(patients)
        for image in range(rng.integers(1, most + 1))
    ]


def patients_of(images: Sequence[SourceImage], chosen: set[str]) -> set[str]:
    return {image.group_name for image in images if image.image_id in chosen}


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.3])
def test_cuts_the_fraction_of_each_class(fraction: float) -> None:
    images = draw(300, label="NORMAL", seed=0) + draw(900, label="PNEUMONIA", seed=1)
    chosen = validation_ids(images, fraction)
    for label in ("NORMAL", "PNEUMONIA"):
        ids = {image.image_id for image in images if image.label == label}
        wanted = round(fraction * len(ids))
        assert wanted <= len(ids & chosen) < wanted + 4  # at most one patient more than needed


def test_keeps_patients_together() -> None:
    images = draw(200, label="NORMAL", seed=0) + draw(200, label="PNEUMONIA", seed=1)
    chosen = validation_ids(images)
    left = {image.image_id for image in images} - chosen
    assert not patients_of(images, chosen) & patients_of(images, left)


def test_keeps_a_patient_of_both_classes_together() -> None:
    images = [
        make_image(f"train/{label}/{patient}.jpeg", f"p{patient}", label)
        for patient in range(50)
        for label in "AB"
    ]
    chosen = validation_ids(images)
    left = {image.image_id for image in images} - chosen
    assert chosen
    assert not patients_of(images, chosen) & patients_of(images, left)


def test_cut_does_not_depend_on_the_order() -> None:
    images = draw(100, label="NORMAL", seed=0) + draw(100, label="PNEUMONIA", seed=1)
    shuffled = [images[i] for i in np.random.default_rng(2).permutation(len(images))]
    assert validation_ids(images) == validation_ids(shuffled)


def test_cut_is_the_same_in_every_release() -> None:
    """A moved patient would make runs incomparable."""
    images = [make_image(f"{number}.jpeg", f"p{number}", "A") for number in range(40)]
    assert sorted(validation_ids(images)) == ["0.jpeg", "17.jpeg", "37.jpeg", "7.jpeg"]


def test_added_images_move_few_patients() -> None:
    images = draw(400, label="NORMAL", seed=0)
    before = patients_of(images, validation_ids(images))
    more = images + draw(440, label="NORMAL", seed=0)[len(images) :]
    assert len(more) > len(images)
    after = patients_of(more, validation_ids(more))
    assert len(before - after) <= 0.1 * len(before)


def test_images_without_patient_are_groups_of_one() -> None:
    images = [make_image(f"{number}.jpeg", "", "A") for number in range(100)]
    assert len(validation_ids(images)) == 10


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([], 0),
        ([1], 0),  # a single patient cannot be split
        ([50], 0),
        ([1, 1], 1),  # 10 % of 2 rounds to 0, but every class needs a validation image
        ([1] * 4, 1),
        ([1] * 14, 1),
        ([1] * 16, 2),
    ],
)
def test_small_classes(sizes: list[int], chosen: int) -> None:
    images = [
        make_image(f"{p}-{i}", f"p{p}", "A") for p, size in enumerate(sizes) for i in range(size)
    ]
    assert len(validation_ids(images)) == chosen


@pytest.mark.parametrize("large", range(6))
def test_train_keeps_a_patient_of_each_class(large: int) -> None:
    """Holds for every position of the large patient in the hash order."""
    images = [
        make_image(f"{p}-{i}", f"p{p}", "A")
        for p in range(6)
        for i in range(1000 if p == large else 1)
    ]
    chosen = validation_ids(images)
    assert 0 < len(patients_of(images, chosen)) < 6


def place(images: Sequence[SourceImage], split: str, *, known: bool = True) -> list[SourceImage]:
    return [
        image._replace(
            image_id=f"{split}/{image.image_id}",
            patient_id=image.patient_id if known else "",
            split=split,
        )
        for image in images
    ]


def both_classes(patients: int, seed: int) -> list[SourceImage]:
    return draw(patients, label=f"A{seed}", seed=seed) + draw(patients, label=f"B{seed}", seed=seed)


def sizes(splits: dict[str, list[SourceImage]]) -> dict[str, int]:
    return {split: len(images) for split, images in splits.items()}


def test_keeps_test_and_cuts_validation() -> None:
    train, own, test = (
        place(both_classes(100, n), s) for n, s in enumerate(("train", "validation", "test"))
    )
    splits = patient_splits(train + own + test, cut_test=True)
    assert splits["test"] == test
    assert splits["validation"] != own
    assert sorted(splits["train"] + splits["validation"]) == sorted(train + own)
    check_no_shared_patients(splits, "")


@pytest.mark.parametrize("known", [True, False])
def test_cuts_a_missing_test_split(known: bool) -> None:
    images = place(both_classes(400, 0), "train", known=known)
    assert patient_splits(images)["test"] == []
    splits = patient_splits(images, cut_test=True)
    assert sizes(splits)["test"] == pytest.approx(TEST_FRACTION * len(images), abs=8)
    rest = len(images) - sizes(splits)["test"]
    assert sizes(splits)["validation"] == pytest.approx(VALIDATION_FRACTION * rest, abs=8)
    assert sorted(image for split in splits.values() for image in split) == sorted(images)
    check_no_shared_patients(splits, "")


@pytest.mark.parametrize(
    ("share", "kept"), [(0.3, True), (0.06, True), (0.04, False), (0.003, False)]
)
def test_keeps_validation_without_patients_unless_a_token(share: float, kept: bool) -> None:
    images = [make_image(str(n), "", "AB"[n % 2]) for n in range(1000)]
    count = int(share * 1000)
    own = place(images[:count], "validation")
    splits = patient_splits(own + place(images[count:], "train"), cut_test=True)
    assert (splits["validation"] == own) == kept
    assert sizes(splits)["test"] == pytest.approx(TEST_FRACTION * (1000 - count * kept), abs=2)


def test_source_splits() -> None:
    train, test = place(both_classes(5, 0), "train"), place(both_classes(5, 1), "test")
    assert source_splits(test + train) == {"train": train, "validation": [], "test": test}


def test_finds_shared_patients() -> None:
    a, b, c = (
        make_image(name, patient, "A") for name, patient in (("1", "p1"), ("2", "p2"), ("3", ""))
    )
    assert find_shared_patients({"train": [a, b, c], "validation": [b], "test": [c, b, a]}) == {
        "p1": ["train", "test"],
        "p2": ["train", "validation", "test"],
    }


def test_names_a_shared_patient_and_the_remedy() -> None:
    splits = {
        "train": [make_image("a", "bacteria-1", "A"), make_image("b", "", "A")],
        "validation": [make_image("c", "", "A")],
        "test": [
            make_image("d", "bacteria-1", "A"),
            make_image("e", "virus-1", "A"),
            make_image("f", "", "A"),
        ],
    }
    with pytest.raises(InputError) as caught:
        check_no_shared_patients(splits, "Do something.")
    assert (
        str(caught.value)
        == "1 patient is in two splits:\n  bacteria-1: train and test\nDo something."
    )


def test_names_ten_of_many_shared_patients() -> None:
    images = [make_image(str(number), f"p{number:02}", "A") for number in range(25)]
    with pytest.raises(
        InputError,
        match=r"(?s)^25 patients are in two splits:\n  p00: .*\n  p09: train and test\n  and 15 more\nStop$",
    ):
        check_no_shared_patients({"train": images, "test": images}, "Stop")


def test_accepts_disjoint_patients() -> None:
    unknown = [make_image("a", "", "A")]
    check_no_shared_patients(
        {"train": unknown, "test": [make_image("b", "", "A"), make_image("c", "p", "A")]}, ""
    )
