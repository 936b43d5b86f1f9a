"""Cutting splits that share no patient."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from cxr_tfds.errors import InputError

VALIDATION_FRACTION = 0.1
TEST_FRACTION = 0.2
# Where no patient is known, a source's own validation split is worth more than a cut by image, unless it
# holds less than this share of train and validation: the 16 images of the Kaggle set are 0.003.
TOKEN_SHARE = 0.05


class Subject(Protocol):
    """What is known of an image before it is decoded."""

    @property
    def image_id(self) -> str: ...
    @property
    def patient_id(
        self,
    ) -> str: ...  # "" where unknown: the image then counts as a patient of its own
    @property
    def label(self) -> str: ...


class PlacedSubject(Subject, Protocol):
    @property
    def split(self) -> str: ...  # of the source: train, validation or test


S = TypeVar("S", bound=PlacedSubject)


def source_splits(images: Iterable[S]) -> dict[str, list[S]]:
    """The splits as they came."""
    by_split: dict[str, list[S]] = {"train": [], "validation": [], "test": []}
    for image in images:
        by_split[image.split].append(image)
    return by_split


def patient_splits(images: Iterable[S], *, cut_test: bool = False) -> dict[str, list[S]]:
    """The source's test split as it came, and a validation split of whole patients cut from the rest.

    Where no patient is known and the source's validation split is more than a token, it is kept.

    Args:
      images: of the whole source.
      cut_test: whether to cut a test split, too, where the source has none.
    """
    by_split = source_splits(images)
    keep_validation = _keeps_validation(by_split)
    pool = by_split["train"] if keep_validation else by_split["train"] + by_split["validation"]
    if cut_test and not by_split["test"]:
        by_split["test"], pool = _parted(pool, holdout_ids(pool))
    if keep_validation:
        by_split["train"] = pool
    else:
        by_split["validation"], by_split["train"] = _parted(pool, validation_ids(pool))
    return by_split


def split_notes(images: Sequence[S], splits: Mapping[str, Sequence[S]]) -> list[str]:
    """What `patient_splits` did that a reader of the dataset should know; last, that patients are unknown."""
    own = {image.split for image in images}
    notes = []
    if splits["test"] and "test" not in own:
        notes.append(
            f"The source has no test split: {TEST_FRACTION:.0%} of each class were cut as test."
        )
    if "validation" in own and all(image.split == "validation" for image in splits["validation"]):
        notes.append("No patient is known: the source's own validation split was kept.")
    if unknown := sum(not image.patient_id for image in images):
        notes.append(
            f"{unknown} of {len(images)} images tell no patient: these are split by image, and one patient's images "
            "may stand in two splits."
        )
    return notes


def _keeps_validation(by_split: Mapping[str, Sequence[PlacedSubject]]) -> bool:
    pool = [*by_split["train"], *by_split["validation"]]
    return len(by_split["validation"]) >= TOKEN_SHARE * len(pool) > 0 and not any(
        image.patient_id for image in pool
    )


def _parted(images: Sequence[S], chosen: set[str]) -> tuple[list[S], list[S]]:
    return (
        [image for image in images if image.image_id in chosen],
        [image for image in images if image.image_id not in chosen],
    )


def validation_ids(images: Sequence[Subject], fraction: float = VALIDATION_FRACTION) -> set[str]:
    """The image ids of whole patients that make up `fraction` of each class, rounded up to a patient.

    A class of two or more patients gives at least one and keeps at least one. Patients are taken in
    the order of a hash of their id, so the cut needs no seed, is the same on every machine, and moves
    by few patients when images are added.
    """
    return _cut(images, fraction, "")


def holdout_ids(images: Sequence[Subject], fraction: float = TEST_FRACTION) -> set[str]:
    """As `validation_ids`, in another order of the patients, so that the two cuts are independent."""
    return _cut(images, fraction, "test ")


def _cut(images: Sequence[Subject], fraction: float, salt: str) -> set[str]:
    by_label: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    label_of: dict[str, str] = {}
    for image in images:
        patient = patient_key(image)
        label = label_of.setdefault(
            patient, image.label
        )  # a patient of several classes stays whole
        by_label[label][patient].append(image.image_id)
    chosen: set[str] = set()
    for patients in by_label.values():
        wanted = max(1, round(fraction * sum(map(len, patients.values()))))
        taken = 0
        for patient in sorted(patients, key=lambda p: hashlib.sha256((salt + p).encode()).digest())[
            :-1
        ]:
            if taken >= wanted:
                break
            chosen.update(patients[patient])
            taken += len(patients[patient])
    return chosen


def patient_key(image: Subject) -> str:
    """The patient, or the image itself where the patient is unknown."""
    return image.patient_id or f"image:{image.image_id}"


def patients_twice(splits: Mapping[str, Iterable[Subject]]) -> dict[str, list[str]]:
    """The patients that stand in several splits, with these splits in their order; sorted by patient."""
    places: dict[str, dict[str, None]] = defaultdict(dict)
    for split, images in splits.items():
        for image in images:
            if image.patient_id:
                places[image.patient_id][split] = None
    return {patient: list(found) for patient, found in sorted(places.items()) if len(found) > 1}


def check_no_patient_twice(splits: Mapping[str, Iterable[Subject]], remedy: str) -> None:
    """Raises:
    InputError: a patient stands in two splits; the message names them and ends with `remedy`.
    """
    if doubled := patients_twice(splits):
        some = "\n".join(
            f"  {patient}: {' and '.join(where)}" for patient, where in list(doubled.items())[:20]
        )
        patients = "1 patient stands" if len(doubled) == 1 else f"{len(doubled)} patients stand"
        raise InputError(f"{patients} in two splits:\n{some}\n{remedy}")
