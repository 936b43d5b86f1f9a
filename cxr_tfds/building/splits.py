"""Cuts splits that share no patient."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

from cxr_tfds.errors import InputError
from cxr_tfds.sources import SourceImage
from cxr_tfds.sources.config_json import propose_config
from cxr_tfds.sources.image import State
from cxr_tfds.sources.paths import NEW_ROW, join_names

VALIDATION_FRACTION = 0.1
TEST_FRACTION = 0.2
# Without patient ids, a source's own validation split is kept unless it holds less than this share
# of train and validation. The 16 images of the Kaggle set are 0.003.
TOKEN_SHARE = 0.05

FOLD_PREFIX = "fold:"  # of the split of an image in a source with folds

Splits = dict[str, list[SourceImage]]


def source_splits(images: Iterable[SourceImage]) -> Splits:
    """Returns the images by the source's own splits; a split may be empty. Folds are train."""
    splits: Splits = {"train": [], "validation": [], "test": []}
    for image in images:
        split = "train" if image.split.startswith(FOLD_PREFIX) else image.split
        splits[split].append(image)
    return splits


def patient_splits(images: Iterable[SourceImage], *, cut_test: bool = False) -> Splits:
    """Returns the source's test split unchanged and a validation split cut from the rest by group.

    If no patient is known and the source's validation split is more than a token, it is kept.

    Args:
      images: All images of the source.
      cut_test: Whether to cut a test split as well if the source has none.
    """
    splits = source_splits(images)
    keep_validation = _keeps_validation(splits)
    pool = splits["train"] if keep_validation else splits["train"] + splits["validation"]
    if cut_test and not splits["test"]:
        splits["test"], pool = _partition(pool, holdout_ids(pool))
    if keep_validation:
        splits["train"] = pool
    else:
        splits["validation"], splits["train"] = _partition(pool, validation_ids(pool))
    return splits


def fold_splits(images: Iterable[SourceImage], fold: int, folds: int) -> Splits:
    """Returns one of several folds as the test split, and a validation split cut from the others.

    Folds keep groups together and have about equal numbers of each class. If the source has a test
    split, that one stays, and the fold is the validation split. Folds of the source are used.

    Args:
      images: All images of the source.
      fold: Number of the fold, from 0.
      folds: Number of folds.

    Raises:
      InputError: The source has another number of folds, or there are too few groups.
    """
    splits = source_splits(images)
    pool = splits["train"] + splits["validation"]
    if own := sorted({x.split for x in pool if x.split.startswith(FOLD_PREFIX)}, key=_fold_number):
        if len(own) != folds:
            raise InputError(
                f'split="fold:{fold}/{folds}", but the source has {len(own)} folds. Expected '
                f'"fold:0/{len(own)}" to "fold:{len(own) - 1}/{len(own)}".'
            )
        chosen = {image.image_id for image in pool if image.split == own[fold]}
    else:
        if folds > (groups := len({image.group_name for image in pool})):
            raise InputError(
                f'split="fold:{fold}/{folds}", but there are only {groups} groups of images. '
                f"Choose a smaller number of folds."
            )
        chosen = _assign_folds(pool, folds)[fold]
    target = "validation" if splits["test"] else "test"
    splits[target], rest = _partition(pool, chosen)
    if target == "test":
        splits["validation"], rest = _partition(rest, validation_ids(rest))
    splits["train"] = rest
    return splits


def _fold_number(split: str) -> int:
    return int(split.removeprefix(FOLD_PREFIX))


def _assign_folds(images: Iterable[SourceImage], folds: int) -> list[set[str]]:
    """Returns the image ids of each fold. A group joins the fold with the fewest of its class."""
    assigned: list[set[str]] = [set() for _ in range(folds)]
    for groups in _group_by_label(images).values():
        counts = [0] * folds
        for name in _order_by_hash(groups, "fold "):
            smallest = counts.index(min(counts))
            assigned[smallest].update(groups[name])
            counts[smallest] += len(groups[name])
    return assigned


def describe_splits(images: Sequence[SourceImage], splits: Splits) -> list[str]:
    """Returns notes for the build report on what `patient_splits` did.

    If some patients are unknown, the last note reports it.
    """
    own = {image.split for image in images}
    notes = []
    if folds := sum(split.startswith(FOLD_PREFIX) for split in own):
        first = min((split for split in own if split.startswith(FOLD_PREFIX)), key=_fold_number)
        notes.append(
            f'The source has {folds} folds. Choose the one to test on with "split": '
            f'"fold:0/{folds}", which is fold {_fold_number(first)}.'
        )
    if splits["test"] and "test" not in own:
        notes.append(
            f"The source has no test split: {TEST_FRACTION:.0%} of each class were cut as test."
        )
    if keeps_source_validation(images, splits):
        notes.append("No patient is known: the source's own validation split was kept.")
    if unknown := sum(not image.patient_id for image in images):
        notes.append(
            f"{unknown} of {len(images)} images have no known patient and are split one by one: "
            "images of one patient may be in two splits."
        )
    return notes


def keeps_source_validation(images: Sequence[SourceImage], splits: Splits) -> bool:
    """Returns whether the validation split is the source's own, which needs unknown patients."""
    own = [image for image in images if image.split == "validation"]
    return len(own) > 0 and own == splits["validation"] and not any(x.patient_id for x in images)


def _keeps_validation(splits: Splits) -> bool:
    pool = splits["train"] + splits["validation"]
    groups = [{image.group_name for image in splits[x]} for x in ("train", "validation")]
    if not groups[0].isdisjoint(groups[1]):  # identical images
        return False
    return len(splits["validation"]) >= TOKEN_SHARE * len(pool) > 0 and not any(
        image.patient_id for image in pool
    )


def _partition(
    images: Iterable[SourceImage], chosen: Collection[str]
) -> tuple[list[SourceImage], list[SourceImage]]:
    parts: tuple[list[SourceImage], list[SourceImage]] = ([], [])
    for image in images:
        parts[image.image_id not in chosen].append(image)
    return parts


def validation_ids(
    images: Iterable[SourceImage], fraction: float = VALIDATION_FRACTION
) -> set[str]:
    """Returns the image ids of complete groups that make up `fraction` of each class.

    The number is rounded up to a group. A class of two or more groups gives at least one and keeps
    at least one. Groups are taken in the order of a hash of their name, so the cut needs no seed,
    is the same on every machine, and moves few patients when images are added.
    """
    return _cut(images, fraction, "")


def holdout_ids(images: Iterable[SourceImage]) -> set[str]:
    """Returns the image ids of `TEST_FRACTION`, cut independently of `validation_ids`."""
    return _cut(images, TEST_FRACTION, "test ")


def _cut(images: Iterable[SourceImage], fraction: float, salt: str) -> set[str]:
    chosen: set[str] = set()
    for groups in _group_by_label(images).values():
        wanted = max(1, round(fraction * sum(map(len, groups.values()))))
        taken = 0
        for name in _order_by_hash(groups, salt)[:-1]:
            if taken >= wanted:
                break
            chosen.update(groups[name])
            taken += len(groups[name])
    return chosen


def _group_by_label(images: Iterable[SourceImage]) -> dict[Hashable, dict[str, list[str]]]:
    """Returns label to group to image ids.

    The label of an image with several findings is the number of its rarest one.
    """
    images = list(images)
    counts = Counter(number for image in images for number in _get_present(image))
    by_label: dict[Hashable, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    label_of: dict[str, Hashable] = {}
    for image in images:
        rarest = min(_get_present(image), key=lambda number: (counts[number], number), default="")
        # A patient may have several classes; the first image decides.
        label = label_of.setdefault(image.group_name, rarest if image.states else image.label)
        by_label[label][image.group_name].append(image.image_id)
    return by_label


def _get_present(image: SourceImage) -> list[int]:
    return [number for number, state in enumerate(image.states) if state == State.PRESENT]


def _order_by_hash(names: Iterable[str], salt: str) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256((salt + name).encode()).digest())


def find_shared_patients(splits: Mapping[str, Iterable[SourceImage]]) -> dict[str, list[str]]:
    """Returns the patients that are in several splits, each with its splits; sorted by patient.

    A group of identical images counts as a patient.
    """
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for split, images in splits.items():
        for image in images:
            for name in {image.patient_id, image.group} - {""}:
                found[name][split] = None
    return {patient: list(where) for patient, where in sorted(found.items()) if len(where) > 1}


def check_no_shared_patients(splits: Mapping[str, Iterable[SourceImage]], remedy: str) -> None:
    """Refuses splits that share a patient.

    Args:
      splits: The images of each split.
      remedy: What the user can do; the last line of the message.

    Raises:
      InputError: A patient is in two splits; the message names up to ten patients.
    """
    if shared := find_shared_patients(splits):
        rows = [f"{patient}: {' and '.join(where)}" for patient, where in shared.items()]
        patients = "1 patient is" if len(shared) == 1 else f"{len(shared)} patients are"
        raise InputError(f"{patients} in two splits:\n  {join_names(rows, NEW_ROW)}\n{remedy}")


def _propose_others(classes: Sequence[str], name: str) -> str:
    others = [other for other in classes if other != name]
    if len(others) < 2:
        return ""
    return f" Or leave the class out: {propose_config(classes=others)}"


def check_cut(splits: Splits, classes: Sequence[str], cut: Sequence[str]) -> None:
    """Refuses a cut that leaves a split without a class, because the class has too few groups.

    Args:
      splits: The images of each split.
      classes: Names of the classes; empty if an image may have several findings. Then only a
        source of one group is refused.
      cut: The splits that were cut, and train.

    Raises:
      InputError: A class has fewer groups than splits.
    """
    images = [image for own in splits.values() for image in own]
    for name in classes or [""]:
        own = [image for image in images if name in ("", image.label)]
        groups = len({image.group_name for image in own})
        missing = [x for x in cut if not any(name in ("", image.label) for image in splits[x])]
        if name and "train" in missing:
            raise InputError(
                f"None of the {len(own):,} images of {name} is in train. Expected images of each "
                "class in train." + _propose_others(classes, name)
            )
        if missing and (name or groups < 2):
            raise InputError(
                f"{name or 'The source'} has too few images to cut splits: {len(own):,}, in "
                f"{groups} {'group' if groups == 1 else 'groups'} (of one patient, or identical). "
                f"None is left for {' and '.join(missing)}. Expected a group for each of "
                f"{', '.join(cut)}. Add images, or correct the setting patient."
                + _propose_others(classes, name)
            )
