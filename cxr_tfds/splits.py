"""Cutting a validation split that shares no patient with train."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from cxr_tfds.errors import InputError

VALIDATION_FRACTION = 0.1


class Subject(Protocol):
    """What is known of an image before it is decoded."""

    @property
    def image_id(self) -> str: ...
    @property
    def patient_id(self) -> str: ...  # "" where unknown: the image then counts as a patient of its own
    @property
    def label(self) -> str: ...


def validation_ids(images: Sequence[Subject], fraction: float = VALIDATION_FRACTION) -> set[str]:
    """The image ids of whole patients that make up `fraction` of each class, rounded up to a patient.

    A class of two or more patients gives at least one and keeps at least one. Patients are taken in
    the order of a hash of their id, so the cut needs no seed, is the same on every machine, and moves
    by few patients when images are added.
    """
    by_label: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    label_of: dict[str, str] = {}
    for image in images:
        patient = patient_key(image)
        label = label_of.setdefault(patient, image.label)  # a patient of several classes stays whole
        by_label[label][patient].append(image.image_id)
    chosen: set[str] = set()
    for patients in by_label.values():
        wanted = max(1, round(fraction * sum(map(len, patients.values()))))
        taken = 0
        for patient in sorted(patients, key=lambda p: hashlib.sha256(p.encode()).digest())[:-1]:
            if taken >= wanted:
                break
            chosen.update(patients[patient])
            taken += len(patients[patient])
    return chosen


def patient_key(image: Subject) -> str:
    """The patient, or the image itself where the patient is unknown."""
    return image.patient_id or f"image:{image.image_id}"


def check_no_patient_twice(splits: Mapping[str, Iterable[Subject]], remedy: str) -> None:
    """Raises:
    InputError: a patient stands in two splits; the message names them and ends with `remedy`.
    """
    place: dict[str, str] = {}
    doubled: dict[str, str] = {}
    for split, images in splits.items():
        for image in images:
            first = place.setdefault(patient_key(image), split)
            if first != split:
                doubled[image.patient_id] = f"{first} and {split}"
    if doubled:
        some = "\n".join(f"  {patient}: {where}" for patient, where in sorted(doubled.items())[:20])
        patients = "1 patient stands" if len(doubled) == 1 else f"{len(doubled)} patients stand"
        raise InputError(f"{patients} in two splits:\n{some}\n{remedy}")
