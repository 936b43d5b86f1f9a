"""Lists the images of any folder whose subfolders are classes, and finds the negative class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources.archive import SourcePath
from cxr_tfds.sources.image import SourceImage
from cxr_tfds.sources.layout import (
    Layout,
    check_copy,
    find_named_folders,
    has_image_suffix,
    list_checked_images,
    list_class_images,
    list_split_images,
)
from cxr_tfds.sources.opening import find_root
from cxr_tfds.sources.paths import (
    SPLIT_NAMES,
    list_children,
    list_subfolders,
    printable,
    summarize_folder,
)

# Names of the class without the finding, compared without case, spaces and punctuation.
NEGATIVE_NAMES = {
    "normal", "negative", "neg", "healthy", "nofinding", "nofindings", "noncovid", "noncovid19",
    "control", "controls", "none",
}  # fmt: skip
_NEGATIONS = ("no", "non", "not", "without")  # before another class's name: non-TB and TB
_EXPECTED = """\
Expected layout, with two or more classes of any name:
  train/CLASS/…  val/CLASS/… (optional)  test/CLASS/… (optional)
or
  CLASS/…"""


class ClassFolders(NamedTuple):
    """A source and the classes found in it."""

    images: list[SourceImage]  # sorted by id
    classes: tuple[str, ...]  # the negative class first
    has_splits: bool  # whether the source has its own splits


def scan_classes(
    source: Path, classes: Sequence[str] | None = None, negative: str | None = None
) -> ClassFolders:
    """Returns the images and classes of a `split/class/…` or `class/…` layout.

    Class folders may contain folders. Raises the errors of `scan_splits`, and InputError if there
    are fewer than two classes or the negative class is unclear.

    Args:
      source: Folder or zip, as in `scan_splits`.
      classes: Class names, the negative class first; None takes the folder names.
      negative: The negative class; None recognizes it by its name.
    """
    root = find_root(Path(source), _EXPECTED, lambda folder: _has_classes(folder, classes))
    subfolders = list_subfolders(root)
    splits = find_named_folders(root, SPLIT_NAMES)
    copies = [] if splits else _find_copies(subfolders)
    if classes is not None:
        names = list(classes)
    elif not splits:
        folders = [folder for folder in subfolders if folder not in copies]
        names = _get_class_names(root, folders)
        _check_are_classes(folders)
    elif "train" in splits:
        names = _get_class_names(splits["train"], list_subfolders(splits["train"]))
    else:
        raise MissingData(
            f"{root} has no train split.\nFound there: {summarize_folder(root)}\n{_EXPECTED}"
        )
    if len({name.casefold() for name in names}) < max(2, len(names)):
        raise InputError(
            f"classes {', '.join(names)}; expected two or more that differ in more than case."
        )
    layout = Layout("FOLDER", names, nested=True)
    if splits:
        images = list_split_images(root, layout)
    else:
        images = list_checked_images(root, layout, ignored=copies)
        for copy in copies:
            check_copy(root, images, copy, list_class_images(copy, layout))
    try:
        ordered = _order_classes(names, negative, are_given=classes is not None)
    except InputError as err:
        if classes is None and not any(has_image_suffix(image.path) for image in images):
            raise MissingData(
                f"No file in the folders of {root} has the name of an image.\n"
                f"Found there: {summarize_folder(root)}\n{_EXPECTED}\n"
                f"If the files are radiographs: {err}"
            ) from None
        raise
    return ClassFolders(sorted(images, key=lambda image: image.image_id), ordered, bool(splits))


def check_reader_settings(classes: object, negative: object, patient: object) -> None:
    """Raises InputError for invalid settings of `scan_classes` or an invalid patient pattern."""
    if classes is not None and not (
        isinstance(classes, list | tuple)
        and all(isinstance(name, str) and name for name in classes)
    ):
        raise InputError(f'classes={classes!r}; expected a list: ["Normal", "Fibrosis"].')
    for name, value in (("negative", negative), ("patient", patient)):
        if value is not None and not (isinstance(value, str) and value):
            raise InputError(f"{name}={value!r}; expected text.")
    try:
        re.compile(str(patient or ""))
    except re.error as err:
        raise InputError(f"patient={patient!r} is not a regular expression: {err}.") from err


def parse_patients(folders: ClassFolders, pattern: str) -> list[SourceImage]:
    """Returns the images with the patient that a pattern finds in the path below the class folder.

    The patient is the first group of the regular expression, or else the complete match, and "" if
    the pattern does not match. Raises InputError if it matches no image.
    """
    depth = 2 if folders.has_splits else 1  # parts of an id before the path in the class folder
    names = [image.image_id.split("/", depth)[depth] for image in folders.images]
    matches = [re.search(pattern, name) for name in names]
    if not any(matches):
        raise InputError(
            f"patient={pattern!r} matches no file name. Examples of names: {', '.join(names[:3])}."
        )
    return [
        image._replace(patient_id=((m[1] if m.re.groups else m[0]) or "") if m else "")
        for image, m in zip(folders.images, matches, strict=True)
    ]


def _has_classes(folder: SourcePath, classes: Sequence[str] | None) -> bool:
    names = [path.name.casefold() for path in list_subfolders(folder)]
    if not SPLIT_NAMES.keys().isdisjoint(names):
        return True
    return len(names) > 1 if classes is None else any(c.casefold() in names for c in classes)


def _find_copies(folders: Sequence[SourcePath]) -> list[SourcePath]:
    """Returns the folders that contain two or more of their neighbours again."""
    names = {folder.name.casefold() for folder in folders}
    inside = [{path.name.casefold() for path in list_subfolders(folder)} for folder in folders]
    return [folder for folder, own in zip(folders, inside, strict=True) if len(names & own) > 1]


def _get_class_names(parent: SourcePath, folders: Sequence[SourcePath]) -> list[str]:
    by_spelling: dict[str, SourcePath] = {}
    for path in folders:
        first = by_spelling.setdefault(path.name.casefold(), path)
        if first is not path:
            raise InputError(
                f"{first} and {path} differ only in case. Merge them or rename one of them."
            )
        if path.name != path.name.strip() or not path.name.isprintable():
            raise InputError(f"{str(path)!a}: not usable as a class name. Rename the folder.")
    if len(folders) < 2:
        found = summarize_folder(parent)
        raise InputError(
            f"{parent} has fewer than two class folders.\nFound there: {found}\n{_EXPECTED}"
        )
    return [path.name for path in folders]


def _check_are_classes(folders: Sequence[SourcePath]) -> None:
    """Refuses folders that contain nothing but the same subfolders: they are splits or datasets."""
    inside = [{path.name.casefold() for path in list_subfolders(folder)} for folder in folders]
    common = set.intersection(*inside)
    if len(common) > 1 and all(
        len(names) == len(list_children(f)) for names, f in zip(inside, folders, strict=True)
    ):
        raise InputError(
            f"{', '.join(map(printable, folders))} all contain {', '.join(sorted(common))}: they "
            "look like splits or datasets, not classes. Name the splits train, val and test, give "
            "one of the folders, or list the classes in the setting `classes`."
        )


def _order_classes(names: Sequence[str], negative: str | None, are_given: bool) -> tuple[str, ...]:
    """Returns the class names with the negative class first."""
    if negative is not None:
        found = [name for name in names if name.casefold() == negative.casefold()]
        if not found:
            raise InputError(f"negative={negative!r} is not one of the classes {', '.join(names)}.")
    else:
        found = [name for name in names if _sounds_negative(name, names)]
        if are_given:  # in order, unless the names contradict it
            found = [names[0]] if found in ([], [names[0]]) else []
    if len(found) != 1:
        raise InputError(
            f"Which of the classes {', '.join(names)} is the negative class, without the finding? "
            f"If it is {names[0]}, add "
            f'--config \'{{"name": "224-mine", "negative": "{names[0]}"}}\'.'
        )
    return (*found, *(name for name in names if name != found[0]))


def _sounds_negative(name: str, names: Sequence[str]) -> bool:
    short, *others = ("".join(words) for words in _remove_common_prefix([name, *names]))
    return bool({short, "".join(_split_words(name))} & NEGATIVE_NAMES) or any(
        short == negation + other for negation in _NEGATIONS for other in others
    )


def _remove_common_prefix(names: Sequence[str]) -> list[list[str]]:
    """Returns the words of each name without shared first words: "ct" of CT_COVID, CT_NonCOVID."""
    words = [_split_words(name) for name in names]
    while all(len(own) > 1 and own[0] == words[0][0] for own in words):
        words = [own[1:] for own in words]
    return words


def _split_words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.casefold())
