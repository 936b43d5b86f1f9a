"""Decides which columns of a table have the image, the label, the patient and the split."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.sources.config_json import propose_config
from cxr_tfds.sources.paths import join_names
from cxr_tfds.sources.settings import ReaderSettings
from cxr_tfds.sources.tables.files import SourceFiles, clean_name
from cxr_tfds.sources.tables.table import Table
from cxr_tfds.text import did_you_mean, printable

# Names of columns, compared without case, spaces and punctuation.
_NAMES: Mapping[str, frozenset[str]] = {
    "image": frozenset({
        "image", "images", "imageindex", "imagename", "imagefile", "imagefilename", "imagepath",
        "imageid", "img", "imgname", "imgpath", "xrayimagename", "filename", "filenames", "file",
        "fname", "filepath", "path", "dicomid", "dicompath",
    }),
    "label": frozenset({
        "label", "labels", "findinglabels", "finding", "findings", "class", "classname", "target",
        "diagnosis", "category", "pathology", "disease",
    }),
    "patient": frozenset({
        "patientid", "patient", "patientnumber", "patientindex", "subjectid", "subject", "pid",
    }),
    "split_column": frozenset({"split", "datasettype", "subset", "partition", "fold"}),
}  # fmt: skip
_STATES = {"", "1", "0", "-1", "1.0", "0.0", "-1.0"}
_MAX_COLUMNS = 10  # in a message
_MAX_CLASSES = 12  # of a column that is proposed as the label
_MAX_VALUE = 30  # characters


class Columns(NamedTuple):
    """Positions of the columns of a table."""

    image: int
    labels: tuple[int, ...]
    patient: int | None
    split: int | None
    notes: tuple[str, ...]  # which columns were recognized


def find_columns(table: Table, settings: ReaderSettings, files: SourceFiles) -> Columns:
    """Returns the columns that the settings name, or else those with a usual name.

    A column that contains the names of images is the image column, even under another name.

    Raises:
      InputError: A named column does not exist, or a column cannot be recognized. The message lists
        the columns and proposes a command.
    """
    notes = []

    def find(role: str, excluded: Collection[int | None] = ()) -> int | None:
        if name := getattr(settings, role):
            return find_column(table, name)
        found = (
            _find_image_columns(table, files)
            if role == "image"
            else [i for i in _find_named(table, role) if i not in excluded]
        )
        if len(found) > 1 and role == "patient":
            names = [table.columns[i] for i in found]
            raise InputError(
                f"{table.name}: which of the columns {join_names(names)} has the patient? "
                f"Name it: {propose_config(patient=names[0])}"
            )
        if len(found) != 1:
            return None
        notes.append(f"{role.removesuffix('_column')} in the column {table.columns[found[0]]!r}")
        return found[0]

    image = find("image")
    if isinstance(settings.label, list | tuple):
        labels = tuple(find_column(table, name) for name in settings.label)
        if len(set(labels)) < len(labels):
            raise InputError(f"label={list(settings.label)!r} has a column twice. Remove one.")
    else:
        label = find("label", [image])
        labels = () if label is None else (label,)
    if image is None or not labels:
        raise InputError(_explain(table, settings, image, labels))
    patient = find("patient", labels)
    has_other_splits = settings.split_lists or isinstance(settings.table, Mapping)
    split = None if has_other_splits else find("split_column", labels)
    return Columns(image, labels, patient, split, tuple(notes))


def is_image_column(name: str) -> bool:
    """Returns whether a column with this name usually has the names of images."""
    return _normalize(name) in _NAMES["image"]


def find_column(table: Table, name: str) -> int:
    """Returns the position of the only column with this name, which may differ in case."""
    found = [i for i, column in enumerate(table.columns) if column == name] or [
        i for i, c in enumerate(table.columns) if c.casefold() == name.strip().casefold()
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{table.name} has the column {name!r} {len(found)} times. Rename one.")
    columns = [column for column in table.columns if column]
    if len(columns) > _MAX_COLUMNS:
        columns = difflib.get_close_matches(name, columns, _MAX_COLUMNS, cutoff=0)
    kind = " (without a header, columns have numbers)" if table.is_numbered else ""
    raise InputError(f"{table.name}{kind}: no such column. {did_you_mean(name, columns)}")


def _find_named(table: Table, role: str) -> list[int]:
    return [i for i, name in enumerate(table.columns) if _normalize(name) in _NAMES[role]]


def _find_image_columns(table: Table, files: SourceFiles) -> list[int]:
    named = _find_named(table, "image")
    # RSNA names its images after the patients. Other tables have names of their own.
    return (
        [i for i in named if _share_of_images(table, i, files)]
        or [i for i in range(len(table.columns)) if _share_of_images(table, i, files) >= 0.5]
        or named
    )


def _share_of_images(table: Table, column: int, files: SourceFiles) -> float:
    """Returns the share of the first values that are images of the source."""
    values = set(_get_values(table, column)) - {""}
    found = 0
    for value in values:
        try:
            name = clean_name(value, "")
        except InputError:
            continue
        found += bool(files.find(name) or files.find_loosely(name))
    return found / max(len(values), 1)


def _normalize(column: str) -> str:
    return re.sub(r"[\W_]", "", column).casefold()


def _explain(
    table: Table, settings: ReaderSettings, image: int | None, labels: tuple[int, ...]
) -> str:
    """Returns which column is unknown, all columns with values, and a command to name them."""
    unknown = [*["image"] * (image is None), *["label"] * (not labels)]
    lines = []
    for i, name in enumerate(table.columns[:_MAX_COLUMNS]):
        values = map(printable, dict.fromkeys(_get_values(table, i)))
        texts = [v if len(v) <= _MAX_VALUE else f"{v[:_MAX_VALUE]}…" for v in values]
        lines.append(f"  {name or '(no name)'}: {', '.join(x or '(empty)' for x in texts[:3])}")
    if len(table.columns) > _MAX_COLUMNS:
        lines.append(f"  and {len(table.columns) - _MAX_COLUMNS} more")
    proposed = table.columns[labels[0]] if labels else _propose_labels(table, image)
    config = propose_config(
        image=settings.image or ("IMAGE_COLUMN" if image is None else table.columns[image]),
        label=settings.label or proposed,
    )
    return "\n".join([
        f"{table.name}: which column has the {' and which the '.join(unknown)}? "
        "Its columns and first values:",
        *lines,
        f"Name the columns: {config}",
    ])  # fmt: skip


def _propose_labels(table: Table, image: int | None) -> str | list[str]:
    """Returns columns that look like findings, or a column that looks like a class."""
    states, classes, has_values = [], [], 0
    for i, name in enumerate(table.columns):
        values = _get_values(table, i)
        distinct = set(values)
        if not name or i == image:
            continue
        if distinct <= _STATES:
            states.append(name)
            has_values += distinct != {""}
        elif 1 < len(distinct) <= min(_MAX_CLASSES, max(2, len(values) // 2)) and not any(
            value.replace(".", "").isdecimal() for value in distinct
        ):
            classes.append(name)
    if has_values > 1:
        return states[:_MAX_COLUMNS]
    return classes[0] if classes else "LABEL_COLUMN"


def _get_values(table: Table, column: int) -> list[str]:
    return [row[column].strip() if column < len(row) else "" for row in table.sample]
