"""The slices of COVID-CT: their folders, the lists that split them, and what their names tell.

Source: Zhao, Zhang, He, Xie (2020), https://arxiv.org/abs/2003.13865, https://github.com/UCSD-AI4H/COVID-CT. The
slices were cut out of the figures of papers. No name tells a patient, but many tell the paper or figure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources import Place, SourceFile, check_links, open_source, scan_splits, search
from cxr_tfds.sources.layout import Layout, class_images, expect_single, named_folders
from cxr_tfds.sources.places import children, listing, shown

CLASSES = ("NonCOVID", "COVID")
SPELLINGS = {
    "CT_COVID": "COVID", "CT-COVID": "COVID", "CT_NonCOVID": "NonCOVID", "CT-NonCOVID": "NonCOVID",
    "CT_Non-COVID": "NonCOVID", "CT-Non-COVID": "NonCOVID", "Non-COVID": "NonCOVID", "Non_COVID": "NonCOVID",
    "Non COVID": "NonCOVID",
}  # fmt: skip
LAYOUTS = """\
Expected layout, one of
  train/CT_COVID, train/CT_NonCOVID, and the same in val/ and, if you have it, test/
  CT_COVID, CT_NonCOVID and Data-split/COVID/trainCT_COVID.txt, Data-split/NonCOVID/trainCT_NonCOVID.txt, val…, test…
    (the zips of Images-processed/ may stay packed)"""
_NAME = "covid_ct"
_LIST_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_PACKED = "Images-processed"  # where the repository keeps CT_COVID.zip and CT_NonCOVID.zip
_NAMED_AT_MOST = 5

# Papers: 2020.02.25.20021568-p23-108%0.png (DOI, page, object, part), PIIS0140673620301549_0%1.png.
_PAPER = re.compile(r"(?P<paper>.+?)-p\d+-\d|(?P<pii>PIIS\d+)")
# Slices without COVID: 35%0.jpg is part 0 of figure 35, 34.jpg a whole figure. 1029.png tells nothing.
_FIGURE = re.compile(r"(\d+)%\d+\.\w+|(\d+)\.jpe?g", re.IGNORECASE)


class Slices(NamedTuple):
    """What was found."""

    files: list[SourceFile]
    notes: list[str]


def origin(name: str) -> str:
    """The paper or figure a slice was cut from, as its file name tells; "" if it does not."""
    if match := _PAPER.match(name):
        return f"paper-{match['paper'] or match['pii']}"
    if match := _FIGURE.fullmatch(name):
        return f"figure-{match[1] or match[2]}"
    return ""


def scan_slices(source: Path) -> Slices:
    """The slices in either layout, sorted by id.

    Raises:
      MissingData: there is neither.
      InputError: a split lacks a class, a list names a file twice or lists disagree; see also `scan_splits`.
    """
    try:
        return Slices(scan_splits(source, _NAME, CLASSES, spellings=SPELLINGS), [])
    except MissingData:
        return _scan_flat(Path(source))


def _scan_flat(source: Path) -> Slices:
    names = {name.casefold(): name for name in CLASSES} | {
        key.casefold(): name for key, name in SPELLINGS.items()
    }
    layout = Layout(_NAME, CLASSES, names)
    try:
        tops = open_source(source)
    except MissingData as err:
        raise MissingData(f"{err}\n{LAYOUTS}") from None
    packed = (
        [path for path in (source / _PACKED, source.parent / _PACKED) if path.is_dir()]
        if source.is_dir()
        else []
    )
    for path in packed:
        check_links(path.parent, [path])
    images = [*tops, *(top for path in packed for top in open_source(path))]
    roots = (
        root for top in images for root in search(top, lambda folder: _has_classes(folder, layout))
    )
    if (found := next(roots, None)) is None:
        raise MissingData(f"No slices in {source}\nFound there: {listing(tops[-1])}\n{LAYOUTS}")
    places = dict(class_images(found, "", layout))
    lists = {class_name: _lists(tops, class_name, source) for class_name in CLASSES}
    return _listed(places, lists)


def _has_classes(folder: Place, layout: Layout) -> bool:
    # The folders of the lists are called COVID and NonCOVID, too.
    found = named_folders(folder, layout.spellings)
    return set(found) == set(CLASSES) and all(
        any(
            not (place.is_dir() or place.name.casefold().endswith(".txt"))
            for place in children(below)
        )
        for below in found.values()
    )


def _lists(tops: Sequence[Place], class_name: str, source: Path) -> dict[str, list[str]]:
    """Split to the file names of its list. Those of an earlier split lie deeper, and the nearest are taken."""
    for top in tops:
        if found := search(top, lambda folder: (folder / f"trainCT_{class_name}.txt").is_file()):
            folder = expect_single(found, source)
            listed = {
                split: folder / f"{prefix}CT_{class_name}.txt"
                for prefix, split in _LIST_SPLITS.items()
            }
            check_links(source, listed.values())
            return {split: _names(place) for split, place in listed.items() if place.is_file()}
    raise MissingData(
        f"The slices in {source} stand in no splits, and trainCT_{class_name}.txt, the list that makes them, is not "
        f"there.\n{LAYOUTS}\nOr build them as xray_folder, which cuts splits itself."
    )


def _names(place: Place) -> list[str]:
    try:
        text = place.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise InputError(
            f"{shown(place)} is not UTF-8. Save it as UTF-8, or download it again."
        ) from err
    return [re.split(r"[/\\]", line.strip())[-1] for line in text.splitlines() if line.strip()]


def _listed(
    places: Mapping[str, Place], lists: Mapping[str, Mapping[str, Sequence[str]]]
) -> Slices:
    """Gives each listed slice its split; `places` is keyed by class/name."""
    files: dict[str, SourceFile] = {}
    lost: list[str] = []
    for class_name, splits in lists.items():
        counts = Counter(name for names in splits.values() for name in names)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise InputError(
                f"The lists of {class_name} name {len(twice)} files twice: {', '.join(twice[:_NAMED_AT_MOST])}. "
                "Leave each in one list."
            )
        for split, names in splits.items():
            for name in names:
                key = f"{class_name}/{name}"
                if key in places:
                    files[key] = SourceFile(places[key], split, class_name, f"{split}/{key}")
                else:
                    lost.append(key)
    notes = [
        f"{what}: {len(keys)} ({', '.join(sorted(keys)[:_NAMED_AT_MOST])}{', …' * (len(keys) > _NAMED_AT_MOST)})."
        for keys, what in (
            (lost, "Slices of the lists without a file"),
            (set(places) - set(files), "Slices in no list, which are left out"),
        )
        if keys
    ]
    _check_classes(files)
    return Slices(sorted(files.values(), key=lambda file: file.image_id), notes)


def _check_classes(files: Mapping[str, SourceFile]) -> None:
    counts = Counter((file.split, file.class_name) for file in files.values())
    for split in {"train", *(split for split, _ in counts)}:
        for class_name in CLASSES:
            if not counts[split, class_name]:
                raise InputError(
                    f"split {split}: none of the {class_name} slices of its list is there. Get the slices whole."
                )
