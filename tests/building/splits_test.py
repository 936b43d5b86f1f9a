"""Tests the cut of splits: complete patients, the wanted share, the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cxr_tfds.building.splits import (
    TEST_FRACTION,
    TOKEN_SHARE,
    VALIDATION_FRACTION,
    check_cut,
    check_no_shared_patients,
    describe_splits,
    find_shared_patients,
    fold_splits,
    holdout_ids,
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


@pytest.mark.parametrize(("count", "kept"), [(50, True), (49, False), (0, False)])
def test_token_share_is_five_percent(count: int, kept: bool) -> None:
    """Exactly 5 % of train and validation is no token."""
    assert TOKEN_SHARE == 0.05
    images = [make_image(str(n), "", "AB"[n % 2]) for n in range(1000)]
    own = place(images[:count], "validation")
    splits = patient_splits(own + place(images[count:], "train"))
    assert (splits["validation"] == own) == kept


def test_cut_test_images_leave_train_if_validation_is_kept() -> None:
    images = [make_image(str(n), "", "AB"[n % 2]) for n in range(400)]
    own = place(images[:80], "validation")
    splits = patient_splits(own + place(images[80:], "train"), cut_test=True)
    assert sizes(splits) == {"train": 256, "validation": 80, "test": 64}
    ids = [image.image_id for split in splits.values() for image in split]
    assert len(ids) == len(set(ids)) == 400


def test_one_known_patient_is_enough_to_cut_validation() -> None:
    images = [make_image(str(n), "", "AB"[n % 2]) for n in range(400)]
    own = place(images[:80], "validation")
    train = [*place(images[80:], "train")[:-1], place(draw(1, label="A", seed=0), "train")[0]]
    assert patient_splits(own + train)["validation"] != own


def test_test_and_validation_are_cut_independently() -> None:
    """The same order would fill validation with the groups that are next to the test cut."""
    images = [make_image(f"{number}.jpeg", f"p{number}", "A") for number in range(1000)]
    test, validation = holdout_ids(images), validation_ids(images)
    assert len(test) == 200
    assert len(validation) == 100
    # Of 100 images 20 are expected in a random fifth, with a standard deviation of 4.
    assert 8 <= len(test & validation) <= 32


def test_holdout_is_the_same_in_every_release() -> None:
    images = [make_image(f"{number}.jpeg", f"p{number}", "A") for number in range(20)]
    assert sorted(holdout_ids(images)) == ["15.jpeg", "18.jpeg", "7.jpeg", "9.jpeg"]


def test_fold_is_validation_if_the_source_has_a_test_split() -> None:
    train, own, test = (
        place(both_classes(40, n), s) for n, s in enumerate(("train", "validation", "test"))
    )
    chosen: list[SourceImage] = []
    for fold in range(4):
        splits = fold_splits(train + own + test, fold, 4)
        assert splits["test"] == test
        assert sorted(splits["train"] + splits["validation"]) == sorted(train + own)
        check_no_shared_patients(splits, "")
        chosen += splits["validation"]
    assert sorted(chosen) == sorted(train + own)


def test_uses_the_folds_of_the_source() -> None:
    images = [
        image._replace(split=f"fold:{fold}")
        for fold in (2, 10, 9)
        for image in place(both_classes(20, fold), f"fold:{fold}")
    ]
    for position, fold in enumerate((2, 9, 10)):  # in the order of the numbers
        splits = fold_splits(images, position, 3)
        assert {image.split for image in splits["test"]} == {f"fold:{fold}"}
        assert splits["validation"]
        assert {i.split for i in splits["train"] + splits["validation"]} == {
            f"fold:{other}" for other in {2, 9, 10} - {fold}
        }
    with pytest.raises(InputError, match=r'has 3 folds\. Expected "fold:0/3" to "fold:2/3"'):
        fold_splits(images, 0, 4)
    with pytest.raises(InputError, match="has 3 folds"):
        fold_splits(images, 0, 2)


@pytest.mark.parametrize(("patients", "folds"), [(3, 4), (3, 99_999_999_999)])
def test_refuses_more_folds_than_groups(patients: int, folds: int) -> None:
    images = place(draw(patients, label="A", seed=0), "train")
    with pytest.raises(InputError, match=r"there are only 3 groups of images\. Choose a smaller"):
        fold_splits(images, 0, folds)


def test_describes_a_cut_test_split() -> None:
    images = place(both_classes(50, 0), "train")
    assert describe_splits(images, patient_splits(images)) == []
    assert describe_splits(images, patient_splits(images, cut_test=True)) == [
        "The source has no test split: 20% of each class were cut as test."
    ]
    images += place(both_classes(50, 1), "test")
    assert describe_splits(images, patient_splits(images, cut_test=True)) == []


def test_describes_kept_validation_and_unknown_patients() -> None:
    unknown = place(both_classes(50, 0), "train", known=False)
    own = place(both_classes(10, 1), "validation", known=False)
    everything = unknown + own
    total = len(everything)
    assert describe_splits(everything, patient_splits(everything)) == [
        "No patient is known: the source's own validation split was kept.",
        f"{total} of {total} images have no known patient and are split one by one: images of one "
        "patient may be in two splits.",
    ]
    mixed = unknown + place(both_classes(10, 1), "validation")
    (note,) = describe_splits(mixed, patient_splits(mixed))
    assert note.startswith(f"{len(unknown)} of {total} images have no known patient")


def test_describes_the_folds_of_the_source() -> None:
    images = [
        image._replace(split=f"fold:{fold}")
        for fold in (2, 3, 10)
        for image in place(both_classes(20, fold), f"fold:{fold}")
    ]
    note = describe_splits(images, patient_splits(images))[0]
    assert note == (
        "The source has 3 folds. Choose the one to test on with "
        '"split": "fold:0/3", which is fold 2.'
    )


@pytest.mark.parametrize(
    ("numbers", "cut", "message"),
    [
        ([3, 1], ("train", "validation"), "B has too few images to cut splits: 1, in 1 group "),
        (
            [9, 2],
            ("train", "validation", "test"),
            r"B .*: 2, in 2 groups .* None is left for validation\. Expected a group for each of "
            "train, validation, test",
        ),
        ([9, 3], ("train", "validation", "test"), None),
        ([9, 2, 1], ("train", "validation"), r"C .*--config '\{.*\"classes\": \[\"A\", \"B\"\]\}'"),
    ],
)
def test_refuses_a_class_that_a_split_lacks(
    numbers: Sequence[int], cut: Sequence[str], message: str | None
) -> None:
    images = [
        make_image(f"{label}{number}", "", label)
        for label, count in zip("ABC"[: len(numbers)], numbers, strict=True)
        for number in range(count)
    ]
    splits = patient_splits(images, cut_test="test" in cut)
    if message is None:
        check_cut(splits, list("ABC"[: len(numbers)]), cut)
        return
    with pytest.raises(InputError, match=message):
        check_cut(splits, list("ABC"[: len(numbers)]), cut)


def test_refuses_one_patient_for_all_findings() -> None:
    images = [make_image(str(number), "p", "") for number in range(9)]
    with pytest.raises(InputError, match="The source has too few images to cut splits: 9, in 1"):
        check_cut(patient_splits(images), (), ("train", "validation"))
    two = [make_image("other", "q", ""), *images]
    check_cut(patient_splits(two, cut_test=True), (), ("train", "validation", "test"))


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
        match=r"(?s)^25 patients are in two splits:\n  p00: .*\n  p09: train and test\n  and 15 "
        r"more\nStop$",
    ):
        check_no_shared_patients({"train": images, "test": images}, "Stop")


def test_accepts_disjoint_patients() -> None:
    unknown = [make_image("a", "", "A")]
    check_no_shared_patients(
        {"train": unknown, "test": [make_image("b", "", "A"), make_image("c", "p", "A")]}, ""
    )
