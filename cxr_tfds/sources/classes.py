"""Folders of anyone: which of their folders are classes, and which class is the negative one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources.layout import (
    Layout,
    SourceFile,
    check_copy,
    class_files,
    class_images,
    expect_single,
    named_as_image,
    split_files,
)
from cxr_tfds.sources.names import SPLIT_NAMES
from cxr_tfds.sources.opening import open_source
from cxr_tfds.sources.places import Place, children, listing, search, shown, subfolders

# What the class without the finding is called, without case and without what is no letter.
NEGATIVE_NAMES = (
    "normal",
    "negative",
    "neg",
    "healthy",
    "nofinding",
    "nofindings",
    "noncovid",
    "noncovid19",
    "control",
    "controls",
    "none",
)
_NEGATIONS = ("no", "non", "not", "without")  # before another class's name: non-TB beside TB
_EXPECTED = """\
Expected layout, two or more classes, their names as you like:
  train/CLASS/…  val/CLASS/… (optional)  test/CLASS/… (optional)
or
  CLASS/…"""


class Found(NamedTuple):
    """A source whose classes were found in it."""

    files: list[SourceFile]  # sorted by id
    classes: tuple[str, ...]  # the negative class first
    has_splits: bool  # whether the source has splits of its own


def scan_classes(
    source: Path, classes: Sequence[str] | None = None, negative: str | None = None
) -> Found:
    """The files of a `split/class/…` or `class/…` layout; class folders may hold folders.

    Args:
      source: holds the layout, or up to three folders down a folder that does, extracted or in zips; or a zip.
      classes: class names, the negative class first; None takes the folders' names. Folders may differ in case.
      negative: the negative class, where its name does not say so.

    Raises:
      MissingData: there is no such layout.
      InputError: there are less than two classes, a class is in one split only or is empty, two differ only
        in case, a name is unusable, or which class is the negative one is not clear; see `scan_splits` for more.
    """
    try:
        places = open_source(Path(source))
    except MissingData as err:
        raise MissingData(f"{err}\n{_EXPECTED}") from None
    for top in places:
        if found := search(top, lambda folder: _holds_classes(folder, classes)):
            return _scan(expect_single(found, source), classes, negative)
    raise MissingData(
        f"No radiographs in {source}\nFound there: {listing(places[-1])}\n{_EXPECTED}"
    )


def check_reading(classes: object, negative: object, patient: object) -> None:
    """Checks settings that say how to read a folder: those of `scan_classes`, and the pattern of `patients_of`.

    Raises:
      InputError: one is of another kind, or the pattern is no regular expression.
    """
    if classes is not None and not (
        isinstance(classes, list | tuple)
        and all(isinstance(name, str) and name for name in classes)
    ):
        raise InputError(f'classes={classes!r}; expected names in a list: ["Normal", "Fibrosis"].')
    for name, value in (("negative", negative), ("patient", patient)):
        if value is not None and not (isinstance(value, str) and value):
            raise InputError(f"{name}={value!r}; expected a text.")
    try:
        re.compile(str(patient or ""))
    except re.error as err:
        raise InputError(f"patient={patient!r} is no regular expression: {err}.") from err


def patients_of(found: Found, pattern: str) -> list[str]:
    """The patient of each file: the first group of `pattern`, or its whole match, below the class folder.

    "" where it does not match.

    Raises:
      InputError: it matches nowhere.
    """
    above = 2 if found.has_splits else 1  # parts of an id above what stands below the class folder
    below = [file.image_id.split("/", above)[above] for file in found.files]
    matches = [re.search(pattern, name) for name in below]
    if not any(matches):
        raise InputError(
            f"patient={pattern!r} matches no file name; the names are like {', '.join(below[:3])}."
        )
    return [
        ((match[1] if match.re.groups else match[0]) or "") if match else "" for match in matches
    ]


def _holds_classes(folder: Place, classes: Sequence[str] | None) -> bool:
    below = subfolders(folder)
    if any(place.name.casefold() in SPLIT_NAMES for place in below):
        return True
    if classes is not None:
        return bool({c.casefold() for c in classes} & {place.name.casefold() for place in below})
    return len(below) > 1


def _scan(root: Place, classes: Sequence[str] | None, negative: str | None) -> Found:
    below = subfolders(root)
    has_splits = any(place.name.casefold() in SPLIT_NAMES for place in below)
    copies = [] if has_splits else _copies(below)
    folder = _train(root) if has_splits else root
    if classes is None:
        names = _class_names(folder, [place for place in subfolders(folder) if place not in copies])
        if not has_splits:
            _check_no_datasets([place for place in below if place not in copies])
    else:
        names = list(classes)
    _check_distinct(names)
    layout = Layout("FOLDER", names, {name.casefold(): name for name in names}, nested=True)
    if has_splits:
        files = split_files(root, layout)
    else:
        files = class_files(root, "train", "", layout, beside=copies)
        for copy in copies:
            check_copy(root, copy, files, class_images(copy, "", layout))
    try:
        ordered = _negative_first(names, negative, given=classes is not None)
    except InputError as err:
        if classes is None and not any(named_as_image(file.path) for file in files):
            raise MissingData(
                f"No file in the folders of {root} is named as an image.\nFound there: {listing(root)}\n{_EXPECTED}\n"
                f"If they are radiographs all the same: {err}"
            ) from None
        raise
    return Found(sorted(files, key=lambda file: file.image_id), ordered, has_splits)


def _train(root: Place) -> Place:
    for place in subfolders(root):
        if SPLIT_NAMES.get(place.name.casefold()) == "train":
            return place
    raise MissingData(f"{root} holds no train split.\nFound there: {listing(root)}\n{_EXPECTED}")


def _copies(folders: Sequence[Place]) -> list[Place]:
    """The folders that hold two or more of their neighbours again."""
    names = {folder.name.casefold() for folder in folders}
    return [
        folder
        for folder in folders
        if len(names & {p.name.casefold() for p in subfolders(folder)}) > 1
    ]


def _class_names(folder: Place, folders: Sequence[Place]) -> list[str]:
    by_spelling: dict[str, Place] = {}
    for place in folders:
        first = by_spelling.setdefault(place.name.casefold(), place)
        if first is not place:
            raise InputError(
                f"{first} and {place} differ only in case. Merge or rename one of them."
            )
        if place.name != place.name.strip() or not place.name.isprintable():
            raise InputError(f"{str(place)!a}: no class can have such a name. Rename the folder.")
    if len(folders) < 2:
        raise InputError(
            f"{folder} holds fewer than two class folders.\nFound there: {listing(folder)}\n{_EXPECTED}"
        )
    return [place.name for place in folders]


def _check_no_datasets(folders: Sequence[Place]) -> None:
    """Folders that hold no file but the same folders are splits or datasets by other names, not classes."""
    inside = [{place.name.casefold() for place in subfolders(folder)} for folder in folders]
    common = set.intersection(*inside)
    if len(common) > 1 and all(
        len(names) == len(children(f)) for names, f in zip(inside, folders, strict=True)
    ):
        raise InputError(
            f"{', '.join(shown(folder) for folder in folders)} each hold {', '.join(sorted(common))}: they look like "
            "splits or datasets, not like classes. Name splits train, val and test, give one of the folders, or name "
            "the classes with the setting `classes`."
        )


def _check_distinct(names: Sequence[str]) -> None:
    if len({name.casefold() for name in names}) < max(2, len(names)):
        raise InputError(
            f"classes {', '.join(names)}; expected two or more that differ in more than case."
        )


def _negative_first(names: Sequence[str], negative: str | None, *, given: bool) -> tuple[str, ...]:
    spelled = {name.casefold(): name for name in names}
    if negative is not None:
        if negative.casefold() not in spelled:
            raise InputError(f"negative={negative!r} is none of the classes {', '.join(names)}.")
        first = spelled[negative.casefold()]
    else:
        known = [name for name in names if _reads_negative(name, names)]
        if given and known in ([], [names[0]]):
            first = names[0]  # the classes are given in order
        elif len(known) == 1 and not given:
            first = known[0]
        else:
            raise InputError(
                f"Which of the classes {', '.join(names)} is the negative one, without the finding? Say it with "
                f'--config \'{{"name": "224-mine", "negative": "{names[0]}"}}\', if it is that one.'
            )
    return (first, *(name for name in names if name != first))


def _reads_negative(name: str, names: Sequence[str]) -> bool:
    bare, *others = ("".join(words) for words in _own_words([name, *names]))
    whole = "".join(_words(name))
    return bool({bare, whole} & set(NEGATIVE_NAMES)) or any(
        bare == no + other for no in _NEGATIONS for other in others
    )


def _own_words(names: Sequence[str]) -> list[list[str]]:
    """The words of each name without those that all begin with: of CT_COVID and CT_NonCOVID without "ct"."""
    words = [_words(name) for name in names]
    while all(len(own) > 1 and own[0] == words[0][0] for own in words):
        words = [own[1:] for own in words]
    return words


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.casefold())
