"""Lists the images of a folder whose file names hold the class."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from cxr_tfds.errors import InputError
from cxr_tfds.sources.archives import SourcePath
from cxr_tfds.sources.config_json import propose_config
from cxr_tfds.sources.image import SourceImage
from cxr_tfds.sources.masks import FileFilter
from cxr_tfds.sources.opening import open_source
from cxr_tfds.sources.paths import SPLIT_NAMES, fold_name, join_names
from cxr_tfds.sources.settings import MOST_CLASSES, ReaderSettings
from cxr_tfds.sources.walking import find_problem_of, walk_files

NO_MATCH = "names that class_pattern does not match"


def list_images_by_pattern(
    source: Path, settings: ReaderSettings, files: FileFilter
) -> tuple[list[SourceImage], list[str]]:
    """Returns the images whose class is in their file name, and the class names.

    Args:
      source: Folder or archive.
      settings: Its `class_pattern` is searched in each file name.
      files: Decides which files are read.

    Raises:
      InputError: The pattern finds fewer than two classes, too many, classes that differ only in
        case or spaces, or none of a given class.
    """
    given = get_spellings(settings.classes)
    spellings = {fold_name(old): new for old, new in given.items()}
    tops = open_source(Path(source), "Expected images whose names contain the class.")
    # An extracted file replaces its copy in an archive.
    entries: dict[str, SourcePath] = {}
    for top in reversed(tops):
        entries.update(walk_files(top, nested=True, source=files.source))
    images = []
    for inner_path, path in sorted(entries.items(), key=lambda entry: entry[0]):
        if not files.accepts(inner_path):
            continue
        if inner_path.endswith("/"):  # a folder that cannot be read, of any class
            files.leave_out(find_problem_of(path) or NO_MATCH, inner_path)
            continue
        found = _find_class(settings.class_pattern or "", path.name)
        if not found or (spellings and fold_name(found) not in spellings):
            files.leave_out(NO_MATCH, inner_path)
            continue
        label = spellings.get(fold_name(found), found)
        finding = found if isinstance(settings.classes, Mapping) else None
        split = _find_split(inner_path)
        images.append(
            SourceImage(path, split, label, f"{label}/{inner_path}", finding, inner_path=inner_path)
        )
    names = list(dict.fromkeys(spellings.values())) or sorted({image.label for image in images})
    _check_classes(images, names, source, settings, files)
    return images, names


def get_spellings(classes: Sequence[str] | Mapping[str, Sequence[str]] | None) -> dict[str, str]:
    """Returns the names of the source, each with its class; empty if the classes are not given."""
    if isinstance(classes, Mapping):
        return {old: new for new, spellings in classes.items() for old in (*spellings,)}
    return {name: name for name in classes or ()}


def _find_class(pattern: str, name: str) -> str:
    """Returns the first group that takes part in the match, else the match; "" if there is none."""
    match = re.search(pattern, name)
    if match is None:
        return ""
    groups = match.groups()
    found = next((group for group in groups if group), "") if groups else match[0]
    return " ".join(found.split())


def _find_split(inner_path: str) -> str:
    folders = map(str.casefold, inner_path.split("/")[:-1])
    return next((SPLIT_NAMES[name] for name in folders if name in SPLIT_NAMES), "train")


def _check_classes(
    images: Sequence[SourceImage],
    names: Sequence[str],
    source: Path,
    settings: ReaderSettings,
    files: FileFilter,
) -> None:
    pattern = f"class_pattern={settings.class_pattern!r}"
    if not images:
        examples = files.left_out.pop(NO_MATCH, [])
        listed = f" Names: {join_names(examples)}." if examples else ""
        raise InputError(
            f"{pattern} finds a class in no file name of {source}.{listed}{files.describe()}"
        )
    counts = Counter(image.label for image in images)
    if empty := [name for name in names if not counts[name]]:
        examples = files.left_out.get(NO_MATCH, [])
        raise InputError(
            f"{pattern} finds no image of the class {join_names(empty)}. Names without a class: "
            f"{join_names(examples)}. Correct the pattern or the setting classes."
        )
    if len(names) < 2:
        raise InputError(f"{pattern} finds only the class {names[0]!r}; expected two or more.")
    if len(names) > MOST_CLASSES:
        raise InputError(
            f"{pattern} finds {len(names):,} classes, such as {join_names(names[:3])}; expected at "
            f"most {MOST_CLASSES}. Put the part of the name with the class in parentheses: "
            f"{propose_config(class_pattern='^([a-z]+)_')}"
        )
    by_key: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_key[fold_name(name)].append(name)
    if alike := next((own for own in by_key.values() if len(own) > 1), []):
        chosen = [max(own, key=lambda name: counts[name]) for own in by_key.values()]
        raise InputError(
            f"{pattern} finds {join_names(alike)}, which differ only in case. Read them as one "
            f"class: {propose_config(classes=chosen)}"
        )
