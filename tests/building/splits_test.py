"""The validation cut: whole patients, the wanted share, and the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from cxr_tfds.building.splits import (
    TEST_FRACTION,
    VALIDATION_FRACTION,
    check_no_patient_twice,
    patient_key,
    patient_splits,
    patients_twice,
    source_splits,
    validation_ids,
)
from cxr_tfds.errors import InputError
from cxr_tfds.sources import scan_splits
from cxr_tfds.sources.kermany import parse_name


class Subject(NamedTuple):
    image_id: str
    patient_id: str
    label: str


def draw(patients: int, *, label: str, seed: int, most: int = 4) -> list[Subject]:
    """1 to `most` images of each patient."""
    rng = np.random.default_rng(seed)
    return [
        Subject(f"train/{label}/{label}-{patient}-{image}.jpeg", f"{label}-{patient}", label)
        for patient in range(patients)
        for image in range(rng.integers(1, most + 1))
    ]


def patients_of(images: Sequence[Subject], chosen: set[str]) -> set[str]:
    return {patient_key(image) for image in images if image.image_id in chosen}


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.3])
def test_the_fraction_holds_in_each_class(fraction: float) -> None:
    images = draw(300, label="NORMAL", seed=0) + draw(900, label="PNEUMONIA", seed=1)
    chosen = validation_ids(images, fraction)
    for label in ("NORMAL", "PNEUMONIA"):
        ids = {image.image_id for image in images if image.label == label}
        wanted = round(fraction * len(ids))
        assert wanted <= len(ids & chosen) < wanted + 4  # at most one patient more than needed


def test_patients_stay_whole() -> None:
    images = draw(200, label="NORMAL", seed=0) + draw(200, label="PNEUMONIA", seed=1)
    chosen = validation_ids(images)
    left = {image.image_id for image in images} - chosen
    assert not patients_of(images, chosen) & patients_of(images, left)


def test_a_patient_of_both_classes_stays_whole() -> None:
    images = [
        Subject(f"train/{label}/{patient}.jpeg", f"p{patient}", label)
        for patient in range(50)
        for label in "AB"
    ]
    chosen = validation_ids(images)
    left = {image.image_id for image in images} - chosen
    assert chosen
    assert not patients_of(images, chosen) & patients_of(images, left)


def test_the_order_of_the_images_does_not_matter() -> None:
    images = draw(100, label="NORMAL", seed=0) + draw(100, label="PNEUMONIA", seed=1)
    shuffled = [images[i] for i in np.random.default_rng(2).permutation(len(images))]
    assert validation_ids(images) == validation_ids(shuffled)


def test_the_cut_is_pinned() -> None:
    """Another machine or release must not move a patient: runs would no longer be comparable."""
    images = [Subject(f"{number}.jpeg", f"p{number}", "A") for number in range(40)]
    assert sorted(validation_ids(images)) == ["0.jpeg", "17.jpeg", "37.jpeg", "7.jpeg"]


def test_added_images_move_few_patients() -> None:
    images = draw(400, label="NORMAL", seed=0)
    before = patients_of(images, validation_ids(images))
    more = images + draw(440, label="NORMAL", seed=0)[len(images) :]
    assert len(more) > len(images)
    after = patients_of(more, validation_ids(more))
    assert len(before - after) <= 0.1 * len(before)


def test_unknown_patients_count_one_by_one() -> None:
    images = [Subject(f"{number}.jpeg", "", "A") for number in range(100)]
    assert len(validation_ids(images)) == 10


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([], 0),
        ([1], 0),  # one patient cannot be on both sides
        ([50], 0),
        ([1, 1], 1),  # 10 % of 2 is none, but a class without validation images cannot be measured
        ([1] * 4, 1),
        ([1] * 14, 1),
        ([1] * 16, 2),
    ],
)
def test_small_classes(sizes: list[int], chosen: int) -> None:
    images = [
        Subject(f"{p}-{i}", f"p{p}", "A") for p, size in enumerate(sizes) for i in range(size)
    ]
    assert len(validation_ids(images)) == chosen


@pytest.mark.parametrize("large", range(6))
def test_train_keeps_a_patient_of_each_class(large: int) -> None:
    """However the patients' sizes and the order of their hashes meet."""
    images = [
        Subject(f"{p}-{i}", f"p{p}", "A")
        for p in range(6)
        for i in range(1000 if p == large else 1)
    ]
    chosen = validation_ids(images)
    assert 0 < len(patients_of(images, chosen)) < 6


class Placed(NamedTuple):
    image_id: str
    patient_id: str
    label: str
    split: str


def place(subjects: Sequence[Subject], split: str, *, known: bool = True) -> list[Placed]:
    return [
        Placed(f"{split}/{s.image_id}", s.patient_id if known else "", s.label, split)
        for s in subjects
    ]


def both_classes(patients: int, seed: int) -> list[Subject]:
    return draw(patients, label=f"A{seed}", seed=seed) + draw(patients, label=f"B{seed}", seed=seed)


def sizes(splits: dict[str, list[Placed]]) -> dict[str, int]:
    return {split: len(images) for split, images in splits.items()}


def test_the_test_split_stays_and_validation_is_cut_anew() -> None:
    train, own, test = (
        place(both_classes(100, n), s) for n, s in enumerate(("train", "validation", "test"))
    )
    splits = patient_splits(train + own + test, cut_test=True)
    assert splits["test"] == test
    assert splits["validation"] != own
    assert sorted(splits["train"] + splits["validation"]) == sorted(train + own)
    check_no_patient_twice(splits, "")


@pytest.mark.parametrize("known", [True, False])
def test_a_test_split_is_cut_where_there_is_none(known: bool) -> None:
    images = place(both_classes(400, 0), "train", known=known)
    assert patient_splits(images)["test"] == []
    splits = patient_splits(images, cut_test=True)
    assert sizes(splits)["test"] == pytest.approx(TEST_FRACTION * len(images), abs=8)
    rest = len(images) - sizes(splits)["test"]
    assert sizes(splits)["validation"] == pytest.approx(VALIDATION_FRACTION * rest, abs=8)
    assert sorted(image for split in splits.values() for image in split) == sorted(images)
    check_no_patient_twice(splits, "")


@pytest.mark.parametrize(
    ("share", "kept"), [(0.3, True), (0.06, True), (0.04, False), (0.003, False)]
)
def test_without_patients_a_validation_split_is_kept_unless_it_is_a_token(
    share: float, kept: bool
) -> None:
    images = [Subject(str(n), "", "AB"[n % 2]) for n in range(1000)]
    count = int(share * 1000)
    own = place(images[:count], "validation")
    splits = patient_splits(own + place(images[count:], "train"), cut_test=True)
    assert (splits["validation"] == own) == kept
    assert sizes(splits)["test"] == pytest.approx(TEST_FRACTION * (1000 - count * kept), abs=2)


def test_the_splits_of_the_source() -> None:
    train, test = place(both_classes(5, 0), "train"), place(both_classes(5, 1), "test")
    assert source_splits(test + train) == {"train": train, "validation": [], "test": test}


def test_patients_twice() -> None:
    a, b, c = (
        Subject(name, patient, "A") for name, patient in (("1", "p1"), ("2", "p2"), ("3", ""))
    )
    assert patients_twice({"train": [a, b, c], "validation": [b], "test": [c, b, a]}) == {
        "p1": ["train", "test"],
        "p2": ["train", "validation", "test"],
    }


def test_a_patient_in_two_splits_is_named_with_the_remedy() -> None:
    splits = {
        "train": [Subject("a", "bacteria-1", "A"), Subject("b", "", "A")],
        "validation": [Subject("c", "", "A")],
        "test": [
            Subject("d", "bacteria-1", "A"),
            Subject("e", "virus-1", "A"),
            Subject("f", "", "A"),
        ],
    }
    with pytest.raises(InputError) as caught:
        check_no_patient_twice(splits, "Do something.")
    assert (
        str(caught.value)
        == "1 patient stands in two splits:\n  bacteria-1: train and test\nDo something."
    )


def test_many_patients_in_two_splits_are_counted_and_some_named() -> None:
    images = [Subject(str(number), f"p{number:02}", "A") for number in range(25)]
    with pytest.raises(
        InputError,
        match=r"(?s)^25 patients stand in two splits:\n  p00: .*\n  p19: train and test\nStop$",
    ):
        check_no_patient_twice({"train": images, "test": images}, "Stop")


def test_different_patients_pass() -> None:
    unknown = [Subject("a", "", "A")]
    check_no_patient_twice(
        {"train": unknown, "test": [Subject("b", "", "A"), Subject("c", "p", "A")]}, ""
    )


def test_the_real_set(shared_data: Path) -> None:
    files = scan_splits(shared_data / "kermany_224", "chest_xray", ("NORMAL", "PNEUMONIA"))
    by_split: dict[str, list[Subject]] = {"train": [], "validation": [], "test": []}
    for file in files:
        subject = Subject(file.image_id, parse_name(file.path.name)[0], file.label)
        by_split[file.split].append(subject)
    pool = by_split["train"] + by_split["validation"]
    chosen = validation_ids(pool)
    assert 0.099 * len(pool) < len(chosen) < 0.11 * len(pool)
    cut = {
        "train": [s for s in pool if s.image_id not in chosen],
        "validation": [s for s in pool if s.image_id in chosen],
        "test": by_split["test"],
    }
    check_no_patient_twice(cut, "")
