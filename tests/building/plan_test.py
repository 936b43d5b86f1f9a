"""The plan of a dataset: contradictions of identical images, joined groups, and refused sources."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from cxr_tfds.building.config import SourceConfig
from cxr_tfds.building.identical import resolve_identical
from cxr_tfds.building.plan import find_contradiction, plan_splits
from cxr_tfds.errors import InputError
from cxr_tfds.sources import Listing, SourceImage
from cxr_tfds.sources.image import State

CLASSES = ("Normal", "TB")


def make_image(name: str, label: str = "Normal", split: str = "train", **more: Any) -> SourceImage:
    return SourceImage(Path(name), split, label, name, **more)


def draw(count: int, split: str = "train", prefix: str = "") -> list[SourceImage]:
    return [
        make_image(f"{prefix}{split}-{label}-{number}", label, split)
        for label in CLASSES
        for number in range(count)
    ]


def plan(images: Sequence[SourceImage], *, has_splits: bool = False, **settings: Any) -> Any:
    listing = Listing(list(images), CLASSES, has_splits=has_splits)
    return plan_splits(listing, SourceConfig(name="mine", **settings), cuts_test=True, identical=[])


PRESENT, ABSENT = (State.PRESENT, State.ABSENT), (State.ABSENT, State.ABSENT)


@pytest.mark.parametrize(
    ("split", "first", "second", "contradicts"),
    [
        ("patient", ("train", {}), ("train", {}), False),
        ("patient", ("train", {}), ("test", {}), True),
        ("patient", ("train", {}), ("train", {"label": "TB"}), True),
        ("patient", ("train", {"states": PRESENT}), ("train", {"states": ABSENT}), True),
        ("patient", ("train", {"states": PRESENT}), ("train", {"states": PRESENT}), False),
        ("source", ("train", {}), ("test", {}), False),  # the user asked for these splits
        ("source", ("train", {}), ("test", {"label": "TB"}), True),
        ("fold:0/2", ("train", {}), ("validation", {}), True),
    ],
)
def test_contradictions_of_identical_images(
    split: str,
    first: tuple[str, dict[str, Any]],
    second: tuple[str, dict[str, Any]],
    contradicts: bool,
) -> None:
    splits: dict[str, list[SourceImage]] = {
        "train": [make_image("c")],
        "validation": [],
        "test": [],
    }
    for name, (where, settings) in zip("ab", (first, second), strict=True):
        splits[where].append(make_image(name, **settings))
    config = SourceConfig(name="mine", split=split)
    assert find_contradiction(splits, [["a", "b"]], config) == contradicts
    assert not find_contradiction(splits, [], config)
    assert not find_contradiction(splits, [["a"], ["b"], ["c"]], config)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize(
    "pairs",
    [
        [["p1a", "p2a"], ["p3b", "p4a"], ["p2b", "p3a"]],
        [["p1a", "p4a"], ["p2b", "p4b"], ["p4a", "p3a"]],
    ],
)
def test_groups_join_over_several_steps(pairs: Sequence[list[str]], order: Sequence[int]) -> None:
    """Three pairs join four patients, in whatever order they are found."""
    patients = ("p4", "p3", "p2", "p1", "q")
    images = [make_image(f"{name}{view}", patient_id=name) for name in patients for view in "ab"]
    joined, _ = resolve_identical(
        images,
        [pairs[position] for position in order],
        on_conflict="error",
        keeps_source_splits=False,
    )
    assert {image.image_id: image.group for image in joined} == {
        image.image_id: "q" if image.patient_id == "q" else "p1" for image in images
    }


def test_joins_images_without_patient_to_a_patient() -> None:
    images = [make_image("a", patient_id="p"), make_image("b"), make_image("c"), make_image("d")]
    joined, _ = resolve_identical(
        images, [["b", "c", "a"]], on_conflict="error", keeps_source_splits=False
    )
    groups = [image.group for image in joined]
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_joined_patients_are_cut_together() -> None:
    """Each patient shares an image with the next: a cut anywhere would separate two of them."""
    images = [
        make_image(f"{label}-{number}{view}", label, patient_id=f"{label}-{number}")
        for label in CLASSES
        for number in range(60)
        for view in "ab"
    ]
    chains = [
        [f"{label}-{number}b", f"{label}-{number + 1}a"]
        for label in CLASSES
        for number in range(60)
        if number % 3 != 2
    ]
    splits = plan_splits(
        Listing(images, CLASSES), SourceConfig(name="mine"), cuts_test=True, identical=chains
    ).splits
    where = {image.image_id: split for split, own in splits.items() for image in own}
    assert set(where.values()) == {"train", "validation", "test"}
    for label in CLASSES:
        for first in range(0, 60, 3):
            ids = [f"{label}-{number}{view}" for number in range(first, first + 3) for view in "ab"]
            assert len({where[image_id] for image_id in ids}) == 1


def test_plan_counts_images_without_patient() -> None:
    known = [x._replace(patient_id=x.image_id) for x in draw(10, prefix="known-")]
    found = plan(known + draw(20))
    assert found.images_without_patient == 40
    assert sum(map(len, found.splits.values())) == 60


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        ({}, {"train": 18, "validation": 2, "test": 10}),
        ({"split": "source"}, {"train": 20, "test": 10}),
        ({"split": "fold:1/5"}, {"train": 16, "validation": 4, "test": 10}),
    ],
)
def test_keeps_the_test_split_of_the_source(
    settings: dict[str, Any], counts: dict[str, int]
) -> None:
    found = plan(draw(10) + draw(5, "test"), has_splits=True, **settings)
    assert {split: len(images) for split, images in found.splits.items()} == counts
    assert {image.split for image in found.splits["test"]} == {"test"}


@pytest.mark.parametrize(
    ("images", "settings", "message"),
    [
        ([*draw(9)[:9], make_image("lonely", "TB")], {}, "TB has too few images .* 1, in 1 group"),
        (draw(9)[:9], {}, "None of the 0 images of TB is in train"),
        ([x._replace(patient_id="p") for x in draw(9)], {}, "Normal has too few images .* 9, in 1"),
        (draw(5), {"split": "fold:0/11"}, "there are only 10 groups of images"),
        (draw(4), {"split": "fold:5/7"}, r"has too few .* None is left for test\."),
        (draw(9), {"split": "source"}, "has no splits of its own"),
    ],
)
def test_refuses(images: Sequence[SourceImage], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(images, **settings)


def test_refuses_a_fold_without_a_class_if_no_test_is_cut() -> None:
    listing = Listing(draw(4), CLASSES)
    config = SourceConfig(name="mine", split="fold:5/7")
    with pytest.raises(InputError, match=r"None is left for test\."):
        plan_splits(listing, config, cuts_test=False, identical=[])


def test_refuses_a_train_split_of_the_source_without_a_class() -> None:
    images = [x for x in draw(9) if x.label == "Normal"] + draw(5, "test")
    with pytest.raises(InputError, match=r"None of the 5 images of TB is in train\."):
        plan(images, has_splits=True, split="source")


def test_accepts_a_validation_split_of_the_source_without_a_class() -> None:
    """A table may have no image of a rare class in its own validation split."""
    own = [x for x in draw(9, "validation") if x.label == "Normal"]
    found = plan(draw(20) + own + draw(9, "test"), has_splits=True)
    assert found.splits["validation"] == [x._replace(group=x.group_name) for x in own]
