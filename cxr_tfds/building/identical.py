"""Finds identical images and decides what they mean for labels and splits.

Identical files are found before a build, identical pixels after the images were decoded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from cxr_tfds.building.file_stats import FileStats, compute_checksum
from cxr_tfds.building.fitting import FitSettings, fit_file
from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.regular_files import read_content
from cxr_tfds.sources import SourceImage, SourcePath
from cxr_tfds.sources.config_json import propose_config
from cxr_tfds.sources.paths import NEW_ROW, join_names
from cxr_tfds.sources.walking import content_key

Groups = Sequence[Sequence[str]]  # ids of images that are identical
_TRIAL_SIZE = 8
_END_BYTES = 16_384  # radiographs of equal length differ within this distance of an end


def find_identical_files(images: Sequence[SourceImage]) -> Groups:
    """Returns the groups of two or more images with identical bytes.

    Only files of equal length are read, their ends first. Corrupt files are left to the build,
    which lists them all.
    """
    candidates = [list(images)]
    for get_key in (content_key, _checksum_ends, _checksum_file):
        candidates = [part for group in candidates for part in _group_by(group, get_key)]
    return [[image.image_id for image in group] for group in candidates if _is_usable(group[0])]


def find_identical_pixels(images: Iterable[SourceImage], stats: Mapping[str, FileStats]) -> Groups:
    """Returns the groups of two or more images with identical fitted pixels."""
    usable = [image for image in images if image.image_id in stats]
    by_pixels: dict[int, list[str]] = defaultdict(list)
    for image in usable:
        by_pixels[stats[image.image_id].pixel_checksum].append(image.image_id)
    return [ids for ids in by_pixels.values() if len(ids) > 1]


def _group_by(
    images: Iterable[SourceImage], get_key: Callable[[SourcePath], Hashable]
) -> list[list[SourceImage]]:
    found: dict[Hashable, list[SourceImage]] = defaultdict(list)
    for image in images:
        found[get_key(image.path)].append(image)
    return [group for key, group in found.items() if len(group) > 1 and key is not None]


def _checksum_ends(path: SourcePath) -> int | None:
    if not isinstance(path, Path):
        return 0  # the key of an archive's file already has a checksum
    try:
        with path.open("rb") as file:
            start = file.read(_END_BYTES)
            file.seek(max(file.seek(0, 2) - _END_BYTES, 0))
            return compute_checksum(start + file.read())
    except OSError:  # reported when the image is decoded
        return None


def _checksum_file(path: SourcePath) -> int | None:
    try:
        return compute_checksum(read_content(path))
    except (OSError, BadImage):
        return None


def resolve_identical(
    images: Sequence[SourceImage], groups: Groups, *, on_conflict: str, keeps_source_splits: bool
) -> tuple[list[SourceImage], list[str]]:
    """Returns the images with identical ones in one group, and notes for the build report.

    Args:
      images: All images.
      groups: Ids of identical images.
      on_conflict: "error", or "leave_out" to leave out identical images of different labels, and
        images that the source's test split contains, too.
      keeps_source_splits: Whether the dataset has the source's splits, whatever they share.

    Raises:
      InputError: Identical images contradict each other. The message lists up to ten groups.
    """
    by_id = {image.image_id: image for image in images}
    notes: list[str] = []
    dropped: set[str] = set()
    members = [[by_id[image_id] for image_id in ids if image_id in by_id] for ids in merge(groups)]
    contradicting = [
        group for group in members if len({(image.label, image.states) for image in group}) > 1
    ]
    if contradicting:
        _report(contradicting, "with different labels", "Correct the labels", on_conflict, notes)
        dropped = {image.image_id for group in contradicting for image in group}
    tested = [
        group
        for group in members
        if len(splits := {image.split for image in group}) > 1 and "test" in splits
    ]
    tested = [x for x in tested if x[0].image_id not in dropped]
    if tested and not keeps_source_splits:
        _report(
            tested, "in the source's test split and outside it", "Remove them", on_conflict, notes
        )
        dropped |= {x.image_id for group in tested for x in group if x.split != "test"}
    kept = [image for image in images if image.image_id not in dropped]
    return _join_groups(kept, groups), notes


def _is_usable(image: SourceImage) -> bool:
    """Returns whether an image can be decoded. Corrupt files, often identical, are named later."""
    return not isinstance(fit_file(image.path, FitSettings(_TRIAL_SIZE)), BadImage)


def _report(
    groups: Sequence[Sequence[SourceImage]],
    problem: str,
    remedy: str,
    on_conflict: str,
    notes: list[str],
) -> None:
    rows = [join_names([image.image_id for image in group], " = ") for group in groups]
    count = f"{len(groups)} {'group' if len(groups) == 1 else 'groups'} of identical images"
    if on_conflict == "error":
        raise InputError(
            f"{count} {problem}:\n  {join_names(rows, NEW_ROW)}\n{remedy}, or leave them out: "
            f"{propose_config(on_conflict='leave_out')}"
        )
    notes.append(f"Left out: {count} {problem} ({join_names(rows[:3])}).")


def merge(groups: Groups) -> Groups:
    """Returns the groups with those that overlap in one, sorted."""
    leader_of = _find_leaders(groups)
    merged: dict[str, list[str]] = defaultdict(list)
    for name in sorted(leader_of):
        merged[leader_of[name]].append(name)
    return list(merged.values())


def _join_groups(images: Sequence[SourceImage], groups: Groups) -> list[SourceImage]:
    """Returns the images, with one group for all that share a patient or are identical."""
    own = {image.image_id: image.group_name for image in images}
    names = ([own[image_id] for image_id in ids if image_id in own] for ids in groups)
    leader_of = _find_leaders(names)
    return [
        image._replace(group=leader_of.get(own[image.image_id], own[image.image_id]))
        for image in images
    ]


def _find_leaders(groups: Iterable[Sequence[str]]) -> dict[str, str]:
    """Returns each name of the groups with the smallest name it is joined with."""
    leaders: dict[str, str] = {}

    def find_leader(name: str) -> str:
        while (leader := leaders.setdefault(name, name)) != name:
            name = leader
        return name

    for names in groups:
        for name in names:
            first, second = sorted((find_leader(names[0]), find_leader(name)))
            leaders[second] = first
    return {name: find_leader(name) for name in list(leaders)}
