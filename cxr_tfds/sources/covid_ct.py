"""Lists the CT slices of COVID-CT, with the splits of its lists and the paper of each slice.

The slices were cut from figures of papers. No file name contains a patient, but many contain the
paper or figure. Source: Zhao, Zhang, He, Xie (2020), https://arxiv.org/abs/2003.13865,
https://github.com/UCSD-AI4H/COVID-CT.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources.archives import SourcePath
from cxr_tfds.sources.image import Listing, SourceImage
from cxr_tfds.sources.layout import Layout, find_named_folders, list_class_images, scan_splits
from cxr_tfds.sources.masks import FileFilter
from cxr_tfds.sources.opening import find_in, open_source
from cxr_tfds.sources.paths import (
    check_links,
    join_names,
    list_children,
    summarize_folder,
)
from cxr_tfds.sources.tables.opening import read_list
from cxr_tfds.text import printable

CLASSES = ("NonCOVID", "COVID")
_SPELLINGS = {
    "CT_COVID": "COVID", "CT-COVID": "COVID", "CT_NonCOVID": "NonCOVID", "CT-NonCOVID": "NonCOVID",
    "CT_Non-COVID": "NonCOVID", "CT-Non-COVID": "NonCOVID", "Non-COVID": "NonCOVID",
    "Non_COVID": "NonCOVID", "Non COVID": "NonCOVID",
}  # fmt: skip
_LAYOUT = Layout("covid_ct", CLASSES, _SPELLINGS)
_EXPECTED = """\
Expected layout, one of
  train/CT_COVID, train/CT_NonCOVID, and the same in val/ and test/ (optional)
  CT_COVID, CT_NonCOVID (or their zips in Images-processed/), and the lists
    Data-split/COVID/trainCT_COVID.txt, Data-split/NonCOVID/trainCT_NonCOVID.txt, val…, test…"""
_LIST_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_ZIP_FOLDER = "Images-processed"  # where the repository keeps CT_COVID.zip and CT_NonCOVID.zip

# Papers: 2020.02.25.20021568-p23-108%0.png (DOI, page, object, part), PIIS0140673620301549_0%1.png.
_PAPER = re.compile(r"(?P<paper>.+?)-p\d+-\d|(?P<pii>PIIS\d+)")
# Slices without COVID: 35%0.jpg is part 0 of figure 35, 34.jpg a complete figure.
_FIGURE = re.compile(r"(\d+)%\d+\.\w+|(\d+)\.jpe?g", re.IGNORECASE)


def parse_origin(name: str) -> str:
    """Returns the paper or figure that a file name contains, or "" for names like 1029.png."""
    if match := _PAPER.match(name):
        return f"paper-{match['paper'] or match['pii']}"
    if match := _FIGURE.fullmatch(name):
        return f"figure-{match[1] or match[2]}"
    return ""


def scan_slices(source: Path) -> Listing:
    """Returns the slices in either layout.

    The patient of a slice is its paper or figure. Raises the errors of `scan_splits`.
    """
    try:
        listing = scan_splits(source, _LAYOUT.name, CLASSES, _SPELLINGS)
    except MissingData:
        images, notes = _scan_lists(Path(source))
        listing = Listing(images, CLASSES, notes=notes)
    findings = {"COVID": "COVID-19", "NonCOVID": None}  # tumours, other pneumonias or nothing
    return listing._replace(
        images=[
            image._replace(finding=findings[image.label], patient_id=parse_origin(image.path.name))
            for image in listing.images
        ]
    )


def _scan_lists(source: Path) -> tuple[list[SourceImage], list[str]]:
    """Returns the slices of a source whose splits are in lists, and notes on unlisted files."""
    tops = open_source(source, _EXPECTED)
    image_tops = list(tops)
    for folder in (source / _ZIP_FOLDER, source.parent / _ZIP_FOLDER):
        if source.is_dir() and folder.is_dir():
            check_links(folder.parent, [folder])
            image_tops += open_source(folder, _EXPECTED)
    root = find_in(image_tops, _has_images, source)
    if root is None:
        raise MissingData(
            f"No slices in {source}\nFound there: {summarize_folder(tops[-1])}\n{_EXPECTED}"
        )
    listed = list_class_images(root, _LAYOUT, FileFilter(source=source))
    unlisted = {image.image_id: image for image in listed}
    images: list[SourceImage] = []
    missing: list[str] = []
    for class_name in CLASSES:
        for split, names in _read_lists(tops, class_name, source).items():
            for key in (f"{class_name}/{name}" for name in names):
                if image := unlisted.pop(key, None):
                    images.append(image._replace(split=split, image_id=f"{split}/{key}"))
                else:
                    missing.append(key)
    found = {(image.split, image.label) for image in images}
    for split in sorted({"train", *(split for split, _ in found)}):
        for class_name in CLASSES:
            if (split, class_name) not in found:
                raise InputError(
                    f"split {split}: none of the listed {class_name} slices exists. "
                    "Download all slices."
                )
    notes = [
        f"{description}: {len(names)} ({join_names(names)})."
        for description, names in (
            ("Listed slices without a file", missing),
            ("Slices left out because they are in no list", sorted(unlisted)),
        )
        if names
    ]
    return sorted(images, key=lambda image: image.image_id), notes


def _has_images(folder: SourcePath) -> bool:
    # The folders of the lists are named COVID and NonCOVID, too.
    found = find_named_folders(folder, _LAYOUT.spellings)
    return set(found) == set(CLASSES) and all(
        any(not (path.is_dir() or path.name.endswith(".txt")) for path in list_children(below))
        for below in found.values()
    )


def _read_lists(tops: Sequence[SourcePath], class_name: str, source: Path) -> dict[str, list[str]]:
    """Returns split to listed file names. Deeper folders hold the lists of an older split."""
    suffix = f"CT_{class_name}.txt"
    folder = find_in(tops, lambda folder: (folder / f"train{suffix}").is_file(), source)
    if folder is None:
        raise MissingData(
            f"The slices in {source} are not in split folders, and their list train{suffix} is "
            f"missing.\n{_EXPECTED}\nTo let the build cut the splits, use xray_folder."
        )
    lists = {split: folder / f"{prefix}{suffix}" for prefix, split in _LIST_SPLITS.items()}
    check_links(source, lists.values())
    names: dict[str, list[str]] = {}
    for split, path in lists.items():
        if path.is_file():
            lines = read_list(path, printable(path))
            names[split] = [re.split(r"[/\\]", text)[-1] for _, text in lines]
    counts = Counter(name for of_split in names.values() for name in of_split)
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise InputError(
            f"The lists of {class_name} name {len(repeated)} files twice: {join_names(repeated)}. "
            "Keep each in one list."
        )
    return names
