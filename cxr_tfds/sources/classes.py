"""Lists the images of any folder whose subfolders are classes, or whose file names hold them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources.archives import SourcePath
from cxr_tfds.sources.image import Listing, SourceImage
from cxr_tfds.sources.layout import (
    Layout,
    check_copy,
    content_key,
    find_named_folders,
    list_checked_images,
    list_class_images,
    list_split_images,
    sort_by_id,
    walk_files,
)
from cxr_tfds.sources.masks import MASKS, FileFilter, find_unnamed_masks, is_mask_folder
from cxr_tfds.sources.negative import order_classes
from cxr_tfds.sources.opening import find_root, open_source
from cxr_tfds.sources.paths import (
    SPLIT_NAMES,
    join_names,
    list_subfolders,
    printable,
    summarize_folder,
)
from cxr_tfds.sources.patients import find_patient
from cxr_tfds.sources.settings import ReaderSettings
from cxr_tfds.sources.unlabelled import check_are_classes, explain_no_classes

_EXPECTED = """\
Expected layout, with two or more classes of any name:
  train/CLASS/…  val/CLASS/… (optional)  test/CLASS/… (optional)
or
  CLASS/…"""
_FOLD = re.compile(r"folds?[ _-]?(\d+)", re.IGNORECASE)
_COPY = re.compile(r"(.+?)(?: - copy| copy)?(?: ?\(\d+\))?", re.IGNORECASE)
NO_MATCH = "names that class_pattern does not match"


def list_folder_images(source: Path, settings: ReaderSettings) -> Listing:
    """Returns the images of a `split/class/…`, `fold_N/class/…` or `class/…` layout.

    Class folders may contain folders. Masks are left out.

    Raises:
      MissingData: There are no class folders.
      InputError: The source is ambiguous or incomplete, the negative class is unclear, or the
        folders are not classes. The message then names the table that seems to hold the labels.
    """
    files = FileFilter(settings.include, settings.exclude)
    if settings.class_pattern:
        images, names = _list_by_pattern(source, settings, files)
        has_splits = any(image.split != "train" for image in images)
    else:
        images, names, has_splits = _list_by_folder(source, settings, files)
    masks = find_unnamed_masks(images)
    for image_id in sorted(masks):
        files.leave_out(MASKS, image_id)
    kept = [image for image in images if image.image_id not in masks]
    classes = order_classes(names, settings.negative, are_given=settings.classes is not None)
    findings = tuple(sorted({image.finding for image in kept if image.finding}))
    return Listing(
        sort_by_id(_add_patients(kept, settings.patient, depth=1 + has_splits)),
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
                and _has_classes(folder, spellings)
            ),
        )
    except MissingData as err:
        raise explain_no_classes(err, tops) from None
    folders = _find_candidates(root)
    splits = find_named_folders(root, SPLIT_NAMES)
    split_names: Mapping[str, str] = SPLIT_NAMES
    if not splits and folders and all(_FOLD.fullmatch(folder.name) for folder in folders):
        split_names = {
            folder.name.casefold(): f"fold:{int(_FOLD.fullmatch(folder.name)[1])}"  # type: ignore[index]
            for folder in folders
        }
        splits = find_named_folders(root, split_names)
    copies = [] if splits else _find_copies(folders)
    parent, candidates = root, [folder for folder in folders if folder not in copies]
    if splits:
        if "train" not in splits and split_names is SPLIT_NAMES:
            raise MissingData(
                f"{root} has no train split.\nFound there: {summarize_folder(root)}\n{_EXPECTED}"
            )
        parent = splits.get("train") or next(iter(splits.values()))
        candidates = _find_candidates(parent)
    if settings.classes is None:
        check_are_classes(parent, candidates, tops)
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
        check_copy(root, images, copy, list_class_images(copy, layout, FileFilter()))
    return images, names, False


def _list_by_pattern(
    source: Path, settings: ReaderSettings, files: FileFilter
) -> tuple[list[SourceImage], list[str]]:
    """Returns the images whose class is in their file name, and the class names."""
    pattern = re.compile(settings.class_pattern or "")
    spellings = {old.casefold(): new for old, new in get_spellings(settings.classes).items()}
    images = []
    tops = open_source(Path(source), "Expected images whose names contain the class.")
    # An extracted file replaces its copy in an archive.
    entries = {name: path for top in reversed(tops) for name, path in walk_files(top, nested=True)}
    for inner_path, path in sorted(entries.items(), key=lambda entry: entry[0]):
        if not files.accepts(inner_path):
            continue
        match = pattern.search(path.name)
        found = (match[1] if pattern.groups else match[0]) if match else None
        if found is None or (spellings and found.casefold() not in spellings):
            files.leave_out(NO_MATCH, inner_path)
            continue
        label = spellings.get(found.casefold(), found)
        split = next(
            (
                SPLIT_NAMES[part.casefold()]
                for part in inner_path.split("/")[:-1]
                if part.casefold() in SPLIT_NAMES
            ),
            "train",
        )
        finding = found if isinstance(settings.classes, Mapping) else None
        images.append(SourceImage(path, split, label, f"{label}/{inner_path}", finding))
    if not images:
        examples = [name for names in files.left_out.values() for name in names]
        raise InputError(
            f"class_pattern={settings.class_pattern!r} finds a class in no file name of {source}. "
            f"Names: {join_names(examples)}."
        )
    names = list(dict.fromkeys(spellings.values())) or sorted({image.label for image in images})
    if len(names) < 2:
        raise InputError(
            f"class_pattern={settings.class_pattern!r} finds only the class {names[0]!r}; expected "
            "two or more."
        )
    return images, names


def get_spellings(classes: Sequence[str] | Mapping[str, Sequence[str]] | None) -> dict[str, str]:
    """Returns the names of the source, each with its class; empty if the classes are not given."""
    if isinstance(classes, Mapping):
        return {old: new for new, spellings in classes.items() for old in (*spellings,)}
    return {name: name for name in classes or ()}


def _add_patients(
    images: Sequence[SourceImage], pattern: str | None, depth: int
) -> list[SourceImage]:
    """Returns the images with the patient in the path below the class folder, "" if unknown.

    Args:
      images: Images without patients.
      pattern: Regular expression; None recognizes published names.
      depth: Number of parts of an id before the path in the class folder.

    Raises:
      InputError: The pattern matches no image.
    """
    names = [image.image_id.split("/", depth)[-1] for image in images]
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


def _find_candidates(folder: SourcePath) -> list[SourcePath]:
    """Returns the subfolders that may be classes: those with images, except masks."""
    return [
        path
        for path in list_subfolders(folder)
        if not is_mask_folder(path.name) and _contains_images(path)
    ]


def _contains_images(folder: SourcePath) -> bool:
    files = FileFilter()
    return any(files.explain(inner_path) is None for inner_path, _ in walk_files(folder, True))


def _has_classes(folder: SourcePath, spellings: Mapping[str, str]) -> bool:
    names = {path.name.casefold() for path in list_subfolders(folder)}
    if not SPLIT_NAMES.keys().isdisjoint(names):
        return True
    if spellings:
        return not names.isdisjoint(name.casefold() for name in spellings)
    return len(_find_candidates(folder)) > 1


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
        original = by_spelling.get(_COPY.fullmatch(path.name)[1].casefold(), path)  # type: ignore[index]
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
    return Counter((inner, content_key(path)) for inner, path in walk_files(folder, True))
