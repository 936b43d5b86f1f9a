"""The settings that determine how a source is read. They travel in the config of a dataset."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxr_tfds.errors import InputError
from cxr_tfds.sources.paths import SPLIT_NAMES, fold_name, join_names

POLICIES = {
    "on_conflict": ("error", "leave_out"),
    "on_missing": ("error", "leave_out"),
    "repeated_rows": ("same", "any"),
}
_TEXTS = ("negative", "class_pattern", "patient", "image", "split_column")
_LISTS = ("include", "exclude")
_TABLE_ONLY = ("image", "label", "split_column", "split_lists", "repeated_rows", "on_missing")
_FOLDERS_ONLY = ("class_pattern",)
MOST_CLASSES = 100  # of folders and file names: more are patients or images


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReaderSettings:
    """How to read the labelled images of a source.

    Attributes:
      classes: Class names, the negative class first. A mapping renames, merges and selects:
        `{"NORMAL": ["normal", "no finding"], "PNEUMONIA": ["bacteria", "virus"]}`. None takes the
        names of the source.
      negative: The class without the finding. None recognizes it by its name. "" states that the
        source has no negative class.
      class_pattern: Regular expression, searched in the file name; its first group, or else the
        complete match, is the class. None takes the name of the folder.
      patient: With a table, the column with the patient. Otherwise a regular expression, searched
        in the path below the class folder, whose first group, or else the complete match, is the
        patient. None recognizes the file names of published datasets.
      include: Patterns (`fnmatch`) of paths below the source; only matching images are read.
      exclude: Patterns of paths that are left out.
      on_conflict: What to do with identical images, or rows for one image, whose labels differ:
        "error" or "leave_out".
      table: File name of the table with the labels, or a mapping of split to table. None reads
        class folders.
      image: Column with the path or name of the image. None recognizes it by its name.
      label: Column with the class; several findings in a cell are separated by "|". A list of
        columns has one finding each, and an image may have several. None recognizes it.
      split_column: Column with the split.
      split_lists: Split to the text file that lists its images, such as
        `{"train": "train_val_list.txt", "test": "test_list.txt"}`.
      repeated_rows: How several rows for one image are combined: "same" expects equal labels;
        "any" takes a finding as present if any row states it.
      on_missing: What to do with rows whose image does not exist: "error" or "leave_out".

    Raises:
      InputError: A value is not allowed, or contradicts another one.
    """

    classes: Sequence[str] | Mapping[str, Sequence[str]] | None = None
    negative: str | None = None
    class_pattern: str | None = None
    patient: str | None = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    on_conflict: str = "error"
    table: str | Mapping[str, str] | None = None
    image: str | None = None
    label: str | Sequence[str] | None = None
    split_column: str | None = None
    split_lists: Mapping[str, str] | None = None
    repeated_rows: str = "same"
    on_missing: str = "error"

    def __post_init__(self) -> None:
        """Checks the settings."""
        for name, allowed in POLICIES.items():
            if (value := getattr(self, name)) not in allowed:
                raise InputError(f"{name}={value!r}; expected one of {', '.join(allowed)}.")
        for name in _TEXTS:
            value = getattr(self, name)
            if not (value is None or (isinstance(value, str) and (value or name == "negative"))):
                raise InputError(f"{name}={value!r}; expected text.")
        for name in _LISTS:
            if not _is_list_of_texts(value := getattr(self, name)):
                raise InputError(f'{name}={value!r}; expected a list of patterns: ["*/masks/*"].')
        self._check_classes()
        self._check_tables()
        patterns = ("class_pattern",) if self.table else ("class_pattern", "patient")
        for name in patterns:
            try:
                re.compile(getattr(self, name) or "")
            except re.error as err:
                raise InputError(
                    f"{name}={getattr(self, name)!r} is not a regular expression: {err}."
                ) from err

    def to_config(self) -> dict[str, Any]:
        """Returns the settings that differ from their defaults, as a shared dataset holds them."""
        return {name: without_folders(value) for name, value in list_changed(self).items()}

    def _check_classes(self) -> None:
        classes = self.classes
        if isinstance(classes, Mapping):
            names = list(classes)
            valid = all(_is_list_of_texts(folders) and folders for folders in classes.values())
        else:
            names = list(classes or ()) if _is_list_of_texts(classes) else []
            valid = classes is None or bool(names)
        if not (valid and all(isinstance(name, str) and name for name in names)):
            raise InputError(
                f'classes={classes!r}; expected a list: ["Normal", "Fibrosis"], or a mapping: '
                '{"Normal": ["healthy", "control"], "Fibrosis": ["IPF"]}.'
            )
        if classes is not None and len(set(map(fold_name, names))) < max(2, len(names)):
            raise InputError(
                f"classes {join_names(names)}; expected two or more that differ in more than case "
                "and spaces."
            )
        for name in names:
            if name != name.strip() or not name.isprintable():
                raise InputError(
                    f"classes: {name!r} is not usable as a class name. Remove the spaces around "
                    "it, line breaks and control characters."
                )
        owners: dict[str, str] = {}
        for name, spellings in classes.items() if isinstance(classes, Mapping) else ():
            for text in spellings:
                if (owner := owners.setdefault(fold_name(text), name)) != name:
                    raise InputError(
                        f"classes: {text!r} is in {owner} and {name}. Remove it from one of them."
                    )

    def _check_tables(self) -> None:
        for name in ("table", "split_lists"):
            value = getattr(self, name)
            if isinstance(value, Mapping):
                if not value or not all(isinstance(x, str) and x for x in value.values()):
                    raise InputError(f"{name}={value!r}; expected split to file name.")
                if unknown := [split for split in value if split.casefold() not in SPLIT_NAMES]:
                    raise InputError(
                        f"{name} has the split {unknown[0]!r}; expected train, validation or test."
                    )
            elif not (value is None or (name == "table" and isinstance(value, str) and value)):
                raise InputError(f"{name}={value!r}; expected a file name.")
        if not (self.label is None or isinstance(self.label, str) or _is_list_of_texts(self.label)):
            raise InputError(f"label={self.label!r}; expected a column or a list of columns.")
        if self.split_column and (self.split_lists or isinstance(self.table, Mapping)):
            raise InputError("split_column and files for each split: give one of them.")
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        others = _TABLE_ONLY if self.table is None else _FOLDERS_ONLY
        for name in others:
            if getattr(self, name) != defaults[name]:
                kind = "needs a table" if self.table is None else "is for class folders"
                raise InputError(f"{name}={getattr(self, name)!r} {kind}. Remove one of the two.")


def without_folders(value: Any) -> Any:
    """Returns a setting with the name in place of an absolute path, such as the path of a table."""
    if isinstance(value, Mapping):
        return {name: without_folders(each) for name, each in value.items()}
    is_path = isinstance(value, str) and Path(value).is_absolute()
    return Path(value).name if is_path else value


def list_changed(settings: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass that differ from their defaults, as JSON holds them."""
    values = {
        field.name: (_to_json(getattr(settings, field.name)), _to_json(field.default))
        for field in dataclasses.fields(settings)
    }
    return {name: value for name, (value, default) in values.items() if value != default}


def _to_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(x, str) and x for x in value)
