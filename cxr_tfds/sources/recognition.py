"""Recognizes the dataset that a source is, by its layout, so that the fitting builder reads it."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from cxr_tfds.errors import BadImage, InputError, MissingData
from cxr_tfds.sources.archives import SourcePath
from cxr_tfds.sources.kermany import parse_name
from cxr_tfds.sources.opening import open_source
from cxr_tfds.sources.paths import (
    SPLIT_NAMES,
    fold_name,
    join_names,
    list_children,
    list_subfolders,
)
from cxr_tfds.sources.reader import read_source
from cxr_tfds.sources.settings import ReaderSettings
from cxr_tfds.sources.unlabelled import Recognition

_MOST_FOLDERS = 300  # that are searched: published datasets have their tables near the top
_FIRST_BYTES = 4096
_SAMPLED_NAMES = 20
_EXPECTED = (
    "Expected a folder or archive with a folder of images for each class, or with images and a "
    "table of their labels."
)
READER_SETTINGS = {field.name for field in dataclasses.fields(ReaderSettings)} - {"on_conflict"}
_MEDMNIST = "pneumoniamnist*.npz"


class _Telltale(NamedTuple):
    """What only one published dataset has in one of its folders."""

    dataset: str
    names: tuple[str, ...]  # patterns of names in the folder, without regard to case; all exist
    first_line: str = ""  # regular expression, searched in the first line of the first name


_TELLTALES = (
    _Telltale("nih_chest_xray14", ("data_entry_2017*.csv",)),
    _Telltale("chexpert_small", ("train.csv", "valid.csv"), r"^Path,.*No Finding"),
    _Telltale("padchest", ("padchest_chest_x_ray_images_labels*",)),
    _Telltale("rsna_pneumonia", ("stage_2_train_labels.csv",)),
    _Telltale("vindr_cxr", ("image_labels_train.csv",)),
    _Telltale(
        "covidx",
        ("train.txt", "test.txt"),
        r"^\S+ .+ (negative|positive|normal|pneumonia|COVID-19)( |$)",
    ),
    _Telltale(
        "covid_chestxray", ("metadata.csv",), r"(?=.*\bpatientid\b)(?=.*\bfinding\b).*\bfilename\b"
    ),
    _Telltale("covid_ct", ("ct*_covid*", "ct*_noncovid*")),
    _Telltale("covid19_radiography", ("covid", "lung_opacity", "normal", "viral pneumonia")),
    _Telltale("tb_chest_xray", ("cxr_png",)),
    _Telltale("medmnist_pneumonia", (_MEDMNIST,)),
)
# The class folders of the two published forms of the Kermany radiographs.
_KERMANY = {
    "chest_xray_pneumonia": ("normal", "pneumonia"),
    "pneumonia_xray_images": ("normal", "opacity"),
}


def recognize_source(source: Path, settings: Mapping[str, Any]) -> Recognition:
    """Returns the builder that reads a source: of a published dataset, or of the user's own images.

    Args:
      source: Folder or archive.
      settings: Settings of the user, which may name a table or the classes.

    Raises:
      MissingData: There are no labelled images.
      InputError: Several published datasets are there, or the labels cannot be read. The message
        names the settings that seem to read them.
    """
    given = {name: value for name, value in settings.items() if name in READER_SETTINGS}
    if given.get("table"):
        return Recognition("xray_table", {}, "the setting table was given")
    found = _find_published(source, with_kermany=not given)
    if len(found) == 1:
        dataset, reason = next(iter(found.items()))
        return Recognition(dataset, {}, reason)
    if found:
        commands = "".join(
            f"\n  cxr-data build {shlex.quote(str(source))} --dataset {dataset}   ({reason})"
            for dataset, reason in found.items()
        )
        raise InputError(
            f"{source} looks like {len(found)} datasets. Give the folder of one of them, or name "
            f"the one to build:{commands}"
        )
    try:
        listing = read_source(source, ReaderSettings(**given))
    except InputError as err:
        if err.proposal is None or not err.proposal.is_certain:
            raise
        recognition: Recognition = err.proposal
        return recognition
    kind = "file names with classes" if given.get("class_pattern") else "class folders"
    return Recognition("xray_folder", {}, f"{kind}: {join_names(listing.classes)}")


def propose_builder(error: MissingData, source: Path, dataset: str) -> MissingData:
    """Returns the error of a builder with the command that reads the source, if there is one."""
    try:
        recognized = recognize_source(source, {})
    except InputError:
        return error
    if recognized.dataset == dataset:
        return error
    reason = recognized.reason.rstrip(".")
    return MissingData(
        f"{error}\n\n{source} is not {dataset}, but {recognized.dataset} reads it ({reason}):\n"
        f"  cxr-data build {shlex.quote(str(source))}"
    )


def _find_published(source: Path, *, with_kermany: bool) -> dict[str, str]:
    """Returns the published datasets on the first level that has any, each with its reason."""
    if source.is_file() and fnmatch(source.name.casefold(), _MEDMNIST):
        return {"medmnist_pneumonia": f"named {source.name}"}
    for top in open_source(source, _EXPECTED):
        folders, searched = [top], 0
        while folders and searched < _MOST_FOLDERS:
            found: dict[str, str] = {}
            below: list[SourcePath] = []
            for folder in folders[: _MOST_FOLDERS - searched]:
                with contextlib.suppress(InputError, OSError):  # a folder that cannot be read
                    children = list_children(folder)
                    below += [path for path in children if path.is_dir()]
                    found |= _find_telltales(children)
                    found |= _find_kermany(children) if with_kermany else {}
            if found:
                return found
            searched += len(folders)
            folders = below
    return {}


def _find_telltales(children: Sequence[SourcePath]) -> dict[str, str]:
    """Returns the datasets whose telltale is among the children of a folder."""
    found = {}
    for dataset, patterns, first_line in _TELLTALES:
        matches = [_match(children, pattern) for pattern in patterns]
        if all(matches) and (not first_line or _has_first_line(matches[0][0], first_line)):
            found[dataset] = f"found {join_names([paths[0].name for paths in matches])}"
    return found


def _match(children: Sequence[SourcePath], pattern: str) -> list[SourcePath]:
    return [path for path in children if fnmatch(path.name.casefold(), pattern)]


def _has_first_line(file: SourcePath, pattern: str) -> bool:
    try:
        if isinstance(file, Path):
            with file.open("rb") as opened:
                start = opened.read(_FIRST_BYTES)
        else:
            start = file.read_bytes()[:_FIRST_BYTES]
    except (OSError, BadImage):
        return False
    line = start.decode("utf-8-sig", errors="replace").partition("\n")[0]
    return re.search(pattern, line, re.IGNORECASE) is not None


def _find_kermany(children: Sequence[SourcePath]) -> dict[str, str]:
    """Returns the form of the Kermany radiographs that splits are, recognized by image names."""
    splits = {SPLIT_NAMES.get(path.name.casefold()): path for path in children if path.is_dir()}
    if "train" not in splits or "test" not in splits:
        return {}
    folders = list_subfolders(splits["train"])
    names = {fold_name(path.name) for path in folders}
    tested = {fold_name(path.name) for path in list_subfolders(splits["test"])}
    for dataset, classes in _KERMANY.items():
        if names == tested == set(classes):
            sampled = [
                parse_name(path.name)[0]
                for folder in folders
                for path in itertools.islice(list_children(folder), _SAMPLED_NAMES)
            ]
            if sampled and sum(map(bool, sampled)) > len(sampled) / 2:
                return {dataset: "its splits, classes and image names"}
    return {}
