"""Lists the images of any folder whose subfolders are classes, or whose file names hold them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources.archives import SourcePath
from cxr_tfds.sources.copies import check_copy
from cxr_tfds.sources.image import Listing, SourceImage
from cxr_tfds.sources.layout import (
    Layout,
    find_named_folders,
    list_checked_images,
    list_class_images,
    list_split_images,
    sort_by_id,
)
from cxr_tfds.sources.masks import MASKS, FileFilter, find_unnamed_masks, is_mask_folder
from cxr_tfds.sources.name_classes import get_spellings, list_images_by_pattern
from cxr_tfds.sources.negative import order_classes
from cxr_tfds.sources.opening import find_root, open_source
from cxr_tfds.sources.paths import (
    SPLIT_NAMES,
    fold_name,
    join_names,
    list_subfolders,
    summarize_folder,
)
from cxr_tfds.sources.patients import find_patient
from cxr_tfds.sources.settings import ReaderSettings
from cxr_tfds.sources.unlabelled import check_are_classes, explain_no_classes
from cxr_tfds.sources.walking import content_key, walk_files
from cxr_tfds.text import printable

_EXPECTED = """\
Expected layout, with two or more classes of any name:
  train/CLASS/…  val/CLASS/… (optional)  test/CLASS/… (optional)
or
  CLASS/…"""
_FOLD = re.compile(r"folds?[ _-]?(\d+)", re.IGNORECASE)
_MOST_FOLDS = 1000
_COPY = re.compile(r"(.+?)(?: - copy| copy)?(?: ?\(\d+\))?", re.IGNORECASE)


def list_folder_images(source: Path, settings: ReaderSettings) -> Listing:
    """Returns the images of a `split/class/…`, `fold_N/class/…` or `class/…` layout.

    Class folders may contain folders. Masks are left out.

    Raises:
      MissingData: There are no class folders.
      InputError: The source is ambiguous or incomplete, the negative class is unclear, or the
        folders are not classes. The message then names the table that seems to hold the labels.
    """
    files = FileFilter(settings.include, settings.exclude, source=Path(source))
    if settings.class_pattern:
        images, names = list_images_by_pattern(source, settings, files)
        has_splits = any(image.split != "train" for image in images)
    else:
        images, names, has_splits = _list_by_folder(source, settings, files)
    masks = set() if settings.include else find_unnamed_masks(images)  # include readmits masks
    for image_id in sorted(masks):
        files.leave_out(MASKS, image_id)
    kept = [image for image in images if image.image_id not in masks]
    classes = order_classes(names, settings.negative, are_given=settings.classes is not None)
    findings = tuple(sorted({image.finding for image in kept if image.finding}))
    return Listing(
        sort_by_id(_add_patients(kept, settings.patient)),
        classes,
        findings=findings,
        has_splits=has_splits,
        left_out=files.left_out,
    )


def _list_by_folder(
    source: Path, settings: ReaderSettings, files: FileFilter
) -> tuple[list[SourceImage], list[str], bool]:
    """Returns the images, the class names, and whether the source has splits."""
    spellings = get_spellings(settings.classes)
    tops = open_source(Path(source), _EXPECTED)
    try:
        root = find_root(
            Path(source),
            _EXPECTED,
            lambda folder: (
                (folder in tops or not is_mask_folder(folder.name))
                and _has_classes(folder, spellings, files)
            ),
        )
    except MissingData as err:
        raise explain_no_classes(err, tops, files, settings) from None
    folders = _find_candidates(root, files)
    split_names = _find_split_names(root, folders)
    splits = find_named_folders(root, split_names)
    copies = [] if splits else _find_copies(folders)
    parent, candidates = root, [folder for folder in folders if folder not in copies]
    if splits:
        if "train" not in splits and split_names is SPLIT_NAMES:
            raise MissingData(
                f"{root} has no train split.\nFound there: {summarize_folder(root)}\n{_EXPECTED}"
            )
        parent = splits.get("train") or next(splits[x] for x in splits if x != "test")
        candidates = _find_candidates(parent, files, f"{parent.name}/")
    if settings.classes is None:
        check_are_classes(parent, candidates, tops, files)
        names = _get_class_names(parent, candidates)
        spellings = {name: name for name in names}
    names = list(dict.fromkeys(spellings.values()))
    layout = Layout(
        "FOLDER",
        names,
        spellings,
        nested=True,
        selects=settings.classes is not None,
        merges=isinstance(settings.classes, Mapping),
    )
    if splits:
        return list_split_images(root, layout, files, split_names), names, True
    images = list_checked_images(root, layout, files, ignored=copies)
    for copy in copies:
        copied = list_class_images(copy, layout, files.without_record())
        check_copy(root, images, copy, copied, files)
    return images, names, False


def _add_patients(images: Sequence[SourceImage], pattern: str | None) -> list[SourceImage]:
    """Returns the images with the patient in the path below the class folder, "" if unknown.

    Args:
      images: Images without patients.
      pattern: Regular expression; None recognizes published names.

    Raises:
      InputError: The pattern matches no image.
    """
    names = [image.inner_path for image in images]
    if pattern is None:
        found = list(map(find_patient, names))
    else:
        groups = re.compile(pattern).groups
        matches = [re.search(pattern, name) for name in names]
        if not any(matches):
            raise InputError(
                f"patient={pattern!r} matches no file name. Examples of names: "
                f"{', '.join(names[:3])}."
            )
        found = [((m[1] if groups else m[0]) or "") if m else "" for m in matches]
    return [
        image._replace(patient_id=patient) for image, patient in zip(images, found, strict=True)
    ]


def _find_split_names(root: SourcePath, folders: Sequence[SourcePath]) -> Mapping[str, str]:
    """Returns folder name to split, or to the fold if the folders are folds.

    Raises:
      InputError: Only some of the folders are folds, or one is missing.
    """
    folds = {
        fold_name(folder.name): int(match[1])
        for folder in folders
        if (match := _FOLD.fullmatch(folder.name))
    }
    others = [folder.name for folder in folders if fold_name(folder.name) not in folds]
    has_splits = any(fold_name(name) in SPLIT_NAMES for name in others)
    if not folds or (others and len(folds) < 2 and not has_splits):
        return SPLIT_NAMES
    if unexpected := [name for name in others if SPLIT_NAMES.get(fold_name(name)) != "test"]:
        raise InputError(
            f"In {root}, found the folds {join_names(list(folds))} next to "
            f"{join_names(unexpected)}. Expected folds alone, or with a test split. Move the other "
            "folders away."
        )
    numbers = sorted(set(folds.values()))
    if missing := sorted(set(range(numbers[0], numbers[-1])[:_MOST_FOLDS]) - set(numbers)):
        raise InputError(
            f"In {root}, found the folds {join_names(list(folds))}, but not number "
            f"{join_names(list(map(str, missing)))}. Add the missing folds, or number the folders "
            "without a gap."
        )
    tests = {fold_name(name): "test" for name in others}
    return {name: f"fold:{number}" for name, number in folds.items()} | tests


def _find_candidates(
    folder: SourcePath, files: FileFilter, path_prefix: str = ""
) -> list[SourcePath]:
    """Returns the subfolders that may be classes: those with images to read, except masks."""
    return [
        path
        for path in list_subfolders(folder)
        if not is_mask_folder(path.name)
        and files.accepts_any(
            f"{path_prefix}{path.name}/{inner_path}"
            for inner_path, _ in walk_files(path, True, source=files.source)
        )
    ]


def _has_classes(folder: SourcePath, spellings: Mapping[str, str], files: FileFilter) -> bool:
    names = {fold_name(path.name) for path in list_subfolders(folder)}
    if not SPLIT_NAMES.keys().isdisjoint(names):
        return True
    if spellings:
        return not names.isdisjoint(map(fold_name, spellings))
    return len(_find_candidates(folder, files)) > 1


def _find_copies(folders: Sequence[SourcePath]) -> list[SourcePath]:
    """Returns the folders that contain two or more of their neighbours again."""
    names = {fold_name(folder.name) for folder in folders}
    inside = [{fold_name(path.name) for path in list_subfolders(folder)} for folder in folders]
    return [folder for folder, own in zip(folders, inside, strict=True) if len(names & own) > 1]


def _get_class_names(parent: SourcePath, folders: Sequence[SourcePath]) -> list[str]:
    by_spelling: dict[str, SourcePath] = {}
    for path in folders:
        if path.name != path.name.strip() or not path.name.isprintable():
            raise InputError(
                f"'{printable(path)}': not usable as a class name. Rename the folder: without "
                "spaces around the name, line breaks and control characters."
            )
        first = by_spelling.setdefault(fold_name(path.name), path)
        if first is not path:
            is_case = first.name.casefold() == path.name.casefold()
            kind = "case" if is_case else "spaces, or in how accents are stored"
            raise InputError(
                f"{first} and {path} differ only in {kind}. Merge them or rename one of them."
            )
        original = by_spelling.get(fold_name(_COPY.fullmatch(path.name)[1]), path)  # type: ignore[index]
        if original is not path and _get_contents(original) == _get_contents(path):
            raise InputError(
                f"{printable(path)} is a copy of {printable(original)}: the same files. Remove it."
            )
    if len(folders) < 2:
        found = summarize_folder(parent)
        raise InputError(
            f"{parent} has fewer than two class folders.\nFound there: {found}\n{_EXPECTED}"
        )
    return [path.name for path in folders]


def _get_contents(folder: SourcePath) -> Counter[tuple[str, tuple[int, ...]]]:
    walked = walk_files(folder, True, source=None)
    return Counter((inner, content_key(path)) for inner, path in walked)
