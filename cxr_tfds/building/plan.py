"""Plans a dataset before its images are decoded: which image is in which split, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cxr_tfds.building.config import FOLD, RadiographConfig
from cxr_tfds.building.identical import Groups, find_identical_files, resolve_identical
from cxr_tfds.building.splits import (
    Splits,
    check_cut,
    check_no_shared_patients,
    describe_splits,
    fold_splits,
    keeps_source_validation,
    patient_splits,
    source_splits,
)
from cxr_tfds.errors import InputError
from cxr_tfds.sources import Listing, SourceImage
from cxr_tfds.sources.config_json import propose_config


class Plan(NamedTuple):
    """The splits of a dataset.

    Attributes:
      splits: Split to its images; only splits that have any.
      notes: Remarks for the build report.
      images_without_patient: Number of images that are split one by one.
      conflicting_images: Number of images left out because identical ones contradict them.
    """

    splits: Splits
    notes: list[str]
    images_without_patient: int = 0
    conflicting_images: int = 0


def plan_splits(
    listing: Listing, config: RadiographConfig, *, cuts_test: bool, identical: Groups | None = None
) -> Plan:
    """Returns the splits of a dataset and notes for the build report.

    Args:
      listing: The images of the source.
      config: Its `split` and `on_conflict` are used.
      cuts_test: Whether to cut a test split if the source has none.
      identical: Ids of images that are identical. None finds identical files.

    Raises:
      InputError: Identical images contradict each other, a fold does not exist, a class has too
        few images, or a patient is in two splits.
    """
    images, notes = resolve_identical(
        listing.images,
        find_identical_files(listing.images) if identical is None else identical,
        on_conflict=config.on_conflict,
        keeps_source_splits=config.split == "source",
    )
    conflicting = len(listing.images) - len(images)
    notes = [*listing.describe(), *notes]
    if config.split == "source":
        if not listing.has_splits:
            raise InputError(
                'split="source", but the source has no splits of its own. Remove the setting.'
            )
        splits = source_splits(images)
        check_cut(splits, () if listing.several_findings else listing.classes, ["train"])
        return Plan(_remove_empty(splits), notes, conflicting_images=conflicting)
    if fold := FOLD.fullmatch(config.split):
        splits = fold_splits(images, int(fold[1]), int(fold[2]))
    else:
        splits = patient_splits(images, cut_test=cuts_test)
    check_cut(
        splits,
        () if listing.several_findings else listing.classes,
        _list_cut_splits(images, splits, cuts_test or fold is not None),
    )
    notes += describe_splits(images, splits)
    remedy = "Remove them from one split, or keep the source's splits:"
    check_no_shared_patients(splits, f"{remedy} {propose_config(split='source')}")
    unknown = sum(not image.patient_id for image in images)
    return Plan(_remove_empty(splits), notes, unknown, conflicting)


def _list_cut_splits(images: Sequence[SourceImage], splits: Splits, cuts_test: bool) -> list[str]:
    """Returns train, and the splits that do not consist of the source's own images."""
    own = {image.split for image in images}
    keeps_validation = keeps_source_validation(images, splits)
    cuts = {"validation": not keeps_validation, "test": cuts_test and "test" not in own}
    return ["train", *(split for split, is_cut in cuts.items() if is_cut)]


def _remove_empty(splits: Splits) -> Splits:
    return {split: images for split, images in splits.items() if images}


def find_contradiction(
    splits: Mapping[str, Sequence[SourceImage]], identical: Groups, config: RadiographConfig
) -> bool:
    """Returns whether identical images have different labels, or are in different splits."""
    where = {
        image.image_id: (image.label, image.states, "" if config.split == "source" else split)
        for split, images in splits.items()
        for image in images
    }
    return any(len({where[image_id] for image_id in ids}) > 1 for ids in identical)
