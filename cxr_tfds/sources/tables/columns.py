"""Decides which columns of a table have the image, the label, the patient and the split."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.sources.paths import join_names, printable
from cxr_tfds.sources.settings import ReaderSettings, propose_config
from cxr_tfds.sources.tables.files import SourceFiles, clean_name
from cxr_tfds.sources.tables.table import Table
from cxr_tfds.text import did_you_mean

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

    Args:
      table: The table.
      settings: Names of columns; None to recognize them.
      files: The images of the source.

    Raises:
      InputError: A named column does not exist, or a column cannot be recognized. The message lists
        the columns and proposes a command.
    """
    known: dict[str, int | None] = {}
    for role in _NAMES:
        value = getattr(settings, role)
        if isinstance(value, str):
            known[role] = find_column(table, value)
    notes = []
    if "image" not in known:
        known["image"] = _find_image_column(table, files)
        notes.append(_describe(table, "image", known["image"]))
    label = settings.label
    if isinstance(label, list | tuple):
        labels = tuple(find_column(table, name) for name in label)
        if len(set(labels)) < len(labels):
            raise InputError(f"label={list(label)!r} has a column twice. Remove one.")
    else:
        if "label" not in known:
            known["label"] = _recognize(table, settings, "label", [known["image"]])
            notes.append(_describe(table, "label", known["label"]))
        labels = () if known["label"] is None else (known["label"],)
    if known["image"] is None or not labels:
        raise InputError(_explain(table, settings, known["image"], known.get("label")))
    for role in ("patient", "split_column"):
        if role not in known and not (role == "split_column" and _has_other_splits(settings)):
            known[role] = _recognize(table, settings, role, labels)
            notes.append(_describe(table, role, known[role]))
    return Columns(
        known["image"],
        labels,
        known["patient"],
        known.get("split_column"),
        tuple(filter(None, notes)),
    )


def is_image_column(name: str) -> bool:
    """Returns whether a column with this name usually has the names of images."""
    return _normalize(name) in _NAMES["image"]


def find_column(table: Table, name: str) -> int:
    """Returns the position of a column, whose name may differ in case.

    Raises:
      InputError: There is no such column, or there are several.
    """
    found = [i for i, column in enumerate(table.columns) if column == name] or [
        i for i, c in enumerate(table.columns) if c.casefold() == name.strip().casefold()
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{table.name} has the column {name!r} {len(found)} times. Rename one.")
    if len(table.columns) <= _MAX_COLUMNS or not name:
        problem = did_you_mean(name, [column for column in table.columns if column])
    else:
        hint = did_you_mean(name, table.columns).rpartition("?")[0].rpartition(". ")[2]
        problem = f"{name!r} is not one of {join_names(table.columns)}." + (hint and f" {hint}?")
    kind = " (without a header, columns have numbers)" if table.is_numbered else ""
    raise InputError(f"{table.name}{kind}: no such column. {problem}")


def _has_other_splits(settings: ReaderSettings) -> bool:
    return settings.split_lists is not None or isinstance(settings.table, Mapping)


def _share_of_images(table: Table, column: int, files: SourceFiles) -> float:
    """Returns the share of the first values that are images of the source."""
    values = {row[column].strip() for row in table.sample if column < len(row)} - {""}
    found = 0
    for value in values:
        try:
            name = clean_name(value, "")
            found += bool(files.find(name) or files.find_loosely(name))
        except InputError:
            continue
    return found / max(len(values), 1)


def _find_image_column(table: Table, files: SourceFiles) -> int | None:
    named = [i for i, name in enumerate(table.columns) if is_image_column(name)]
    with_images = [i for i in named if _share_of_images(table, i, files)]
    if len(with_images) == 1:
        return with_images[0]
    if not with_images:
        # RSNA names its images after the patients. Other tables have names of their own.
        columns = range(len(table.columns))
        with_images = [i for i in columns if _share_of_images(table, i, files) >= 0.5]
    if len(with_images) == 1:
        return with_images[0]
    return named[0] if len(named) == 1 and not with_images else None


def _recognize(
    table: Table, settings: ReaderSettings, role: str, excluded: Sequence[int | None] = ()
) -> int | None:
    found = [
        i
        for i, name in enumerate(table.columns)
        if _normalize(name) in _NAMES[role] and i not in excluded
    ]
    if len(found) > 1 and role == "patient":
        names = [table.columns[i] for i in found]
        raise InputError(
            f"{table.name}: which of the columns {join_names(names)} has the patient? "
            f"Name it: --config {propose_config(settings, patient=names[0])}"
        )
    return found[0] if len(found) == 1 else None


def _normalize(column: str) -> str:
    return re.sub(r"[\W_]", "", column).casefold()


def _describe(table: Table, role: str, column: int | None) -> str:
    if column is None:
        return ""
    word = "split" if role == "split_column" else role
    return f"{word} in the column {table.columns[column]!r}"


def _explain(table: Table, settings: ReaderSettings, image: int | None, label: int | None) -> str:
    """Returns which column is unknown, all columns with values, and a command to name them."""
    unknown = [
        role
        for role, is_unknown in (("image", image is None), ("label", label is None))
        if is_unknown and not (role == "label" and isinstance(settings.label, list | tuple))
    ]
    lines = []
    for i, name in enumerate(table.columns[:_MAX_COLUMNS]):
        values = list(dict.fromkeys(_get_values(table, i)))[:3]
        texts = (_shorten(printable(value)) or "(empty)" for value in values)
        lines.append(f"  {name or '(no name)'}: {', '.join(texts)}")
    if len(table.columns) > _MAX_COLUMNS:
        lines.append(f"  and {len(table.columns) - _MAX_COLUMNS} more")
    config = propose_config(
        settings,
        image=settings.image or ("IMAGE_COLUMN" if image is None else table.columns[image]),
        label=settings.label
        or (_propose_labels(table, image) if label is None else table.columns[label]),
    )
    return "\n".join([
        f"{table.name}: which column has the {' and which the '.join(unknown)}? "
        "Its columns and first values:",
        *lines,
        f"Name the columns: --config {config}",
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


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"


def _get_values(table: Table, column: int) -> list[str]:
    return [row[column].strip() if column < len(row) else "" for row in table.sample]
