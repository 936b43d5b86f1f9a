"""Lists the images of any folder whose subfolders are classes, and finds the negative class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources.image import SourceImage
from cxr_tfds.sources.layout import (
    Layout,
    check_copy,
    has_image_suffix,
    list_checked_images,
    list_class_images,
    list_split_images,
)
from cxr_tfds.sources.opening import find_root
from cxr_tfds.sources.paths import (
    SPLIT_NAMES,
    SourcePath,
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
    """A source and the classes found in it.

    Attributes:
      images: The images, sorted by id.
      classes: The class names, the negative class first.
      has_splits: Whether the source has its own splits.
    """

    images: list[SourceImage]
    classes: tuple[str, ...]
    has_splits: bool


def scan_classes(
    source: Path, classes: Sequence[str] | None = None, negative: str | None = None
) -> ClassFolders:
    """Returns the images of a `split/class/…` or `class/…` layout with its classes.

    Class folders may contain folders.

    Args:
      source: Zip, or folder with the layout at most three levels down, extracted or in zips.
      classes: Class names, the negative class first; None takes the folder names. Folder names are
        compared without case.
      negative: The negative class; None recognizes it by its name.

    Raises:
      MissingData: There is no such layout.
      InputError: There are fewer than two classes, a class is empty or missing in a split, names
        are unusable, or the negative class is unclear; see `scan_splits` for more.
    """
    root = find_root(Path(source), _EXPECTED, lambda folder: _has_classes(folder, classes))
    subfolders = list_subfolders(root)
    has_splits = _has_splits(subfolders)
    copies = [] if has_splits else _find_copies(subfolders)
    if classes is not None:
        names = list(classes)
    elif has_splits:
        names = _get_class_names(_get_train_folder(root))
    else:
        names = _get_class_names(root, copies)
        _check_are_classes([folder for folder in subfolders if folder not in copies])
    if len({name.casefold() for name in names}) < max(2, len(names)):
        raise InputError(
            f"classes {', '.join(names)}; expected two or more that differ in more than case."
        )
    layout = Layout("FOLDER", names, nested=True)
    if has_splits:
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
    return ClassFolders(sorted(images, key=lambda image: image.image_id), ordered, has_splits)


def check_reader_settings(classes: object, negative: object, patient: object) -> None:
    """Checks the settings of `scan_classes` and `parse_patients`.

    Raises:
      InputError: A setting has the wrong type, or `patient` is not a valid regular expression.
    """
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

    Args:
      folders: The source.
      pattern: Regular expression. Its first group, or else the complete match, is the patient;
        the patient is "" if it does not match.

    Raises:
      InputError: The pattern matches no image.
    """
    depth = 2 if folders.has_splits else 1  # parts of an id before the path in the class folder
    names = [image.image_id.split("/", depth)[depth] for image in folders.images]
    matches = [re.search(pattern, name) for name in names]
    if not any(matches):
        raise InputError(
            f"patient={pattern!r} matches no file name. Examples of names: {', '.join(names[:3])}."
        )
    patients = [((m[1] if m.re.groups else m[0]) or "") if m else "" for m in matches]
    return [
        image._replace(patient_id=patient)
        for image, patient in zip(folders.images, patients, strict=True)
    ]


def _has_splits(folders: Sequence[SourcePath]) -> bool:
    return any(folder.name.casefold() in SPLIT_NAMES for folder in folders)


def _has_classes(folder: SourcePath, classes: Sequence[str] | None) -> bool:
    subfolders = list_subfolders(folder)
    if _has_splits(subfolders):
        return True
    if classes is None:
        return len(subfolders) > 1
    return bool({c.casefold() for c in classes} & {path.name.casefold() for path in subfolders})


def _get_train_folder(root: SourcePath) -> SourcePath:
    for folder in list_subfolders(root):
        if SPLIT_NAMES.get(folder.name.casefold()) == "train":
            return folder
    raise MissingData(
        f"{root} has no train split.\nFound there: {summarize_folder(root)}\n{_EXPECTED}"
    )


def _find_copies(folders: Sequence[SourcePath]) -> list[SourcePath]:
    """Returns the folders that contain two or more of their neighbours again."""
    names = {folder.name.casefold() for folder in folders}
    return [
        folder
        for folder in folders
        if len(names & {path.name.casefold() for path in list_subfolders(folder)}) > 1
    ]


def _get_class_names(folder: SourcePath, ignored: Sequence[SourcePath] = ()) -> list[str]:
    by_spelling: dict[str, SourcePath] = {}
    for path in list_subfolders(folder):
        if path in ignored:
            continue
        if first := by_spelling.get(path.name.casefold()):
            raise InputError(
                f"{first} and {path} differ only in case. Merge them or rename one of them."
            )
        if path.name != path.name.strip() or not path.name.isprintable():
            raise InputError(f"{str(path)!a}: not usable as a class name. Rename the folder.")
        by_spelling[path.name.casefold()] = path
    if len(by_spelling) < 2:
        raise InputError(
            f"{folder} has fewer than two class folders.\nFound there: {summarize_folder(folder)}\n"
            f"{_EXPECTED}"
        )
    return [path.name for path in by_spelling.values()]


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


def _order_classes(
    names: Sequence[str], negative: str | None, *, are_given: bool
) -> tuple[str, ...]:
    """Returns the class names with the negative class first."""
    spellings = {name.casefold(): name for name in names}
    if negative is not None:
        if negative.casefold() not in spellings:
            raise InputError(f"negative={negative!r} is not one of the classes {', '.join(names)}.")
        first = spellings[negative.casefold()]
    else:
        found = [name for name in names if _sounds_negative(name, names)]
        if are_given and found in ([], [names[0]]):
            first = names[0]
        elif len(found) == 1 and not are_given:
            first = found[0]
        else:
            raise InputError(
                f"Which of the classes {', '.join(names)} is the negative class, without the "
                f"finding? If it is {names[0]}, add "
                f'--config \'{{"name": "224-mine", "negative": "{names[0]}"}}\'.'
            )
    return (first, *(name for name in names if name != first))


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
