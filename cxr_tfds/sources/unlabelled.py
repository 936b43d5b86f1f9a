"""Explains folders that are not classes: where the labels seem to be, and how to read them."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources.archives import SourcePath
from cxr_tfds.sources.config_json import propose_config
from cxr_tfds.sources.masks import EXCLUDED, NOT_IMAGES, FileFilter
from cxr_tfds.sources.negative import sounds_negative
from cxr_tfds.sources.paths import (
    SPLIT_NAMES,
    find_folders,
    fold_name,
    join_names,
    list_children,
    list_subfolders,
    summarize_folder,
)
from cxr_tfds.sources.settings import MOST_CLASSES, ReaderSettings
from cxr_tfds.sources.walking import walk_files
from cxr_tfds.text import printable

_MANY_FOLDERS = 10  # of one file each: fewer may be classes of a first try
_TABLES = {".csv", ".tsv", ".xlsx", ".jsonl", ".parquet"}
_LISTS = {".txt"}
# Tables next to the one with the labels in published datasets, and words of those with labels.
_OTHER_TABLES = re.compile(r"submission|summary|detailed|bbox|box_list|arxiv|readme", re.IGNORECASE)
_LABEL_TABLES = re.compile(r"label|entry|metadata|train|annotation|class|diagnos", re.IGNORECASE)
# Words that say nothing about a class, with any number: images_001, stage_2_train_images, CXR_png.
_CONTAINER_WORDS = {
    "image", "images", "img", "imgs", "png", "jpg", "jpeg", "dicom", "dcm", "tif", "tiff", "cxr",
    "data", "dataset", "files", "xray", "xrays", "rays", "x", "stage", "part", "batch", "set",
    "original", "resized", "patient", "patients", "p", "pat", "case", "study", "series", "subject",
    "",
} | set(SPLIT_NAMES)  # fmt: skip
_NAME_CLASS = re.compile(r"_([01])\.[^.]+$")
_NAME_WORD = re.compile(r"^([^\W\d_]+)[ _(-]*\d")


class Recognition(NamedTuple):
    """The builder that reads a source, or seems to.

    Attributes:
      dataset: Name of the builder.
      settings: What it needs to read the source, besides the settings of the user.
      reason: What in the source the choice rests on, for people.
      is_certain: Whether a build may use it without asking.
    """

    dataset: str
    settings: Mapping[str, Any]
    reason: str
    is_certain: bool = True


def check_are_classes(
    parent: SourcePath,
    folders: Sequence[SourcePath],
    tops: Sequence[SourcePath],
    files: FileFilter,
) -> None:
    """Refuses folders that are containers, patients, images, splits or datasets, not classes.

    Classes with splits in them are refused, too: their images would be mixed.

    Raises:
      InputError: The folders are not classes. The message names up to ten of them and a remedy.
    """
    names = [folder.name for folder in folders]
    if not folders:
        error = MissingData(f"{printable(parent)} has no class folders.")
        raise explain_no_classes(error, tops, files)
    if all(_is_container(name) for name in names) and set(names) != {"0", "1"}:
        problem = "are not classes"
    elif len(folders) > MOST_CLASSES:
        problem = f"are {len(folders):,} folders; expected at most {MOST_CLASSES} classes"
    elif len(folders) >= _MANY_FOLDERS and all(map(_holds_one_file, folders)):
        problem = "hold one file each: they look like patients, not classes"
    else:
        _check_are_no_datasets(folders)
        _check_have_no_splits(folders)
        return
    raise explain_no_classes(InputError(f"In {parent}, {join_names(names)} {problem}."), tops)


def _holds_one_file(folder: SourcePath) -> bool:
    return len(list(itertools.islice(walk_files(folder, nested=True, source=None), 2))) == 1


def _is_container(name: str) -> bool:
    words = re.split(r"[\W_\d]+", name.casefold())
    return all(word in _CONTAINER_WORDS for word in words) and not name.isdigit()


def _check_are_no_datasets(folders: Sequence[SourcePath]) -> None:
    """Refuses folders that contain nothing but the same classes: they are splits or datasets."""
    inside = [{path.name.casefold() for path in list_subfolders(folder)} for folder in folders]
    common = sorted(set.intersection(*inside)) if inside else []
    if (
        len(folders) > 1
        and len(common) > 1
        and any(sounds_negative(name, common) for name in common)
        and all(
            len(names) == len(list_children(f)) for names, f in zip(inside, folders, strict=True)
        )
    ):
        raise InputError(
            f"{join_names(list(folders))} all contain {join_names(common)}: they look like splits "
            "or datasets, not classes. Name the splits train, val and test, give one of the "
            "folders, or list the classes in the setting `classes`."
        )


def _check_have_no_splits(folders: Sequence[SourcePath]) -> None:
    """Refuses classes that all contain the folder train and another split."""
    inside = [{SPLIT_NAMES.get(fold_name(x.name)) for x in list_subfolders(f)} for f in folders]
    if folders and all("train" in splits and len(splits - {None}) > 1 for splits in inside):
        names = [folder.name for folder in folders]
        raise InputError(
            f"{join_names(names)} contain splits: {join_names(list_subfolders(folders[0]))}. "
            f"Expected train/{names[0]}/…, test/{names[0]}/…: move the folders. Or ignore these "
            f"splits by listing the classes: {propose_config(classes=names)}"
        )


def explain_no_classes(
    error: InputError,
    tops: Sequence[SourcePath],
    files: FileFilter | None = None,
    settings: ReaderSettings | None = None,
) -> InputError:
    """Returns the error with the command that seems to read the labels of a source.

    Args:
      error: What is wrong.
      tops: Where the images were looked for.
      files: What decides which files are read.
      settings: How the source is read.
    """
    files, settings = files or FileFilter(source=None), settings or ReaderSettings()
    tables, names = _find_tables(tops), _find_image_names(tops, files)
    is_filtered = bool(settings.include or settings.exclude)
    reasons = _count_reasons(tops, files) if is_filtered or not names else Counter()
    if reasons and (not names or EXCLUDED in reasons):
        counted = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        remedy = "Change the settings include and exclude."
        if EXCLUDED not in reasons:
            remedy = f"If these are radiographs, read them with: {propose_config(include=['*'])}"
        return type(error)(f"{error}\nFiles that were left out: {counted}. {remedy}")
    if settings.classes is not None:
        return type(error)(
            f"{error}\nNo folder is in the setting classes={settings.classes!r}. Name folders of "
            f"the source, such as {summarize_folder(tops[-1])}."
        )
    proposal = _propose(tables, names)
    # The user's pattern for paths of class folders does not name a column of a table.
    removed = ["patient"] if "table" in proposal.settings else []
    explained = type(error)(
        f"{error}\n{proposal.reason} Settings to read them:\n"
        f"  {propose_config(*removed, **proposal.settings)}\n"
        f"with cxr-data summary, cxr-data preview, cxr-data build or tfds build {proposal.dataset}."
    )
    explained.proposal = proposal
    return explained


def _propose(tables: Sequence[SourcePath], names: Sequence[str]) -> Recognition:
    """Returns what seems to read the labels, from the tables and some image names of a source."""
    if tables:
        listed = [path.name for path in tables]
        reason = f"The labels seem to be in {join_names(listed)}."
        by_split = {
            SPLIT_NAMES[stem]: name
            for name in listed
            if (stem := PurePath(name).stem.casefold()) in SPLIT_NAMES
        }
        if "train" in by_split:
            return Recognition("xray_table", {"table": by_split}, reason)
        is_certain = len(listed) == 1 or not _LABEL_TABLES.search(listed[1])
        return Recognition("xray_table", {"table": listed[0]}, reason, is_certain)
    if numbered := sum(bool(_NAME_CLASS.search(name)) for name in names):
        reason = f"The labels seem to be in the file names: {join_names(names[:3])}."
        settings = {"class_pattern": "_([01])[.]"}
        return Recognition("xray_folder", settings, reason, is_certain=numbered == len(names))
    if len({match[1] for match in map(_NAME_WORD.search, names) if match}) > 1:
        reason = f"The labels may be in the file names: {join_names(names[:3])}."
        return Recognition("xray_folder", {"class_pattern": r"^([^\W\d_]+)"}, reason, False)
    reason = "No table with labels was found. Make a folder for each class, or add a table."
    return Recognition("xray_table", {"table": "labels.csv"}, reason, False)


def _find_tables(tops: Sequence[SourcePath]) -> list[SourcePath]:
    """Returns the tables of the first levels, the one that seems to hold the labels first."""
    found = []
    for top in tops:
        for folder in find_folders(top, lambda path: any(map(_is_table, list_children(path)))):
            found += [path for path in list_children(folder) if _is_table(path)]
    return sorted(
        (path for path in found if not _OTHER_TABLES.search(path.name)),
        key=lambda path: not _LABEL_TABLES.search(path.name),
    )


def _is_table(path: SourcePath) -> bool:
    name = PurePath(path.name.casefold())
    is_split_list = name.suffix in _LISTS and name.stem in SPLIT_NAMES
    return path.is_file() and (name.suffix in _TABLES or is_split_list)


def _count_reasons(tops: Sequence[SourcePath], files: FileFilter) -> Counter[str]:
    """Returns reason to the number of images that are left out for it."""
    walked = (pair for top in tops for pair in walk_files(top, nested=True, source=files.source))
    reasons = Counter(reason for path, _ in walked if (reason := files.explain(path)))
    del reasons[NOT_IMAGES]
    return reasons


def _find_image_names(tops: Sequence[SourcePath], files: FileFilter, most: int = 50) -> list[str]:
    names: list[str] = []
    for top in tops:
        for inner_path, path in walk_files(top, nested=True, source=files.source):
            if files.explain(inner_path) is None:
                names.append(path.name)
            if len(names) == most:
                return names
    return names
