"""Lists the images of a source whose labels are in a table."""

from __future__ import annotations

import contextlib
import gc
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources.config_json import propose_config
from cxr_tfds.sources.image import Listing, SourceImage
from cxr_tfds.sources.masks import NOT_IMAGES, FileFilter
from cxr_tfds.sources.paths import NEW_ROW, SPLIT_NAMES, join_names
from cxr_tfds.sources.patients import find_patient
from cxr_tfds.sources.settings import ReaderSettings
from cxr_tfds.sources.tables.columns import Columns, find_columns
from cxr_tfds.sources.tables.files import SourceFile, SourceFiles, clean_name, walk_source
from cxr_tfds.sources.tables.images import combine_rows_of_images
from cxr_tfds.sources.tables.labels import (
    NOT_SELECTED,
    Labels,
    read_label_column,
    read_state_columns,
)
from cxr_tfds.sources.tables.opening import TABLE_SUFFIXES, open_table
from cxr_tfds.sources.tables.rows import Row, RowReader
from cxr_tfds.sources.tables.splits import match_lists, read_splits
from cxr_tfds.sources.tables.table import EditTable, Table
from cxr_tfds.sources.walking import find_problem_of
from cxr_tfds.text import did_you_mean, printable

MISSING = "rows whose image does not exist"
MISSING_LINES = "lines of split_lists whose image does not exist"
NO_ROW = "images without a row"
NO_SPLIT = "images without a split"


class _Source(NamedTuple):
    images: SourceFiles
    excluded: SourceFiles  # masks, and what the settings exclude
    left_out: dict[str, list[str]]
    tables: list[tuple[str, SourceFile]]  # split, or "" if a column or a list has it; table
    lists: dict[str, SourceFile]  # split to the list of its images


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Keeps the collector from visiting all rows again and again, a fifth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_without_garbage_collection()
def list_table_images(
    source: Path, settings: ReaderSettings, edit: EditTable | None = None
) -> Listing:
    """Returns the images of a source whose labels are in a table.

    A label column with 0 and 1 gives the classes "0" (the negative class) and "1". The setting
    `classes` renames them: `{"Normal": ["0"], "Opacity": ["1"]}`.

    Args:
      source: Folder, or zip, with the images and the table.
      settings: `table` names the table. Columns without a setting are recognized by their names.
      edit: Returns a table with the rows to read, for what the settings cannot describe.

    Raises:
      MissingData: The source or the table does not exist.
      InputError: A table is not readable, a column is unknown, a row has no image, two images or a
        path out of the source, rows contradict each other, or the classes are unclear.
    """
    source = Path(source)
    found = _find_files(source, settings)
    files = found.images.files
    label_columns = [settings.label] if isinstance(settings.label, str) else settings.label or ()
    names = [settings.image, settings.patient, settings.split_column, *label_columns]
    wanted = [name for name in names if name]
    tables = [open_table(file.path, file.inner_path, wanted) for _, file in found.tables]
    tables = [edit(table) for table in tables] if edit else tables
    columns = [find_columns(table, settings, found.images) for table in tables]
    reader = RowReader(found.images, found.excluded)
    for (split, file), table, own in zip(found.tables, tables, columns, strict=True):
        reader.read(table, own, file.inner_path.rpartition("/")[0], split)
    reader.accept_loose_matches()
    first_column = tables[0].columns[columns[0].image]
    _check_any_image(reader, f"column {first_column!r}", found, source)
    groups: dict[int, list[Row]] = defaultdict(list)
    for row in reader.rows:
        groups[row.image].append(row)
    findings = [tables[0].columns[i] for i in columns[0].labels]
    labels = _read_labels(reader, groups, findings, settings)
    left_out = defaultdict(list, found.left_out)
    left_out[MISSING] = [
        f"{printable(row.name) or '(empty)'} ({row.place})"
        for row in reader.missing
        if settings.classes is None or labels.meanings[row.label].reason != NOT_SELECTED
    ]
    _check_missing(MISSING, left_out[MISSING], settings, files)
    images = combine_rows_of_images(groups, labels, files, settings, left_out)
    for i, file in enumerate(files):
        if i not in groups:
            left_out[find_problem_of(file.path) or NO_ROW].append(file.inner_path)
    if found.lists:
        splits, left_out[MISSING_LINES] = match_lists(found.lists, reader, files)
        _check_missing(MISSING_LINES, left_out[MISSING_LINES], settings, files)
        split_notes: list[str] = []
    else:
        splits, split_notes = read_splits(images, settings)
    has_patients = any(own.patient is not None for own in columns)
    listed = []
    for position, image in images.items():
        split = splits.get(position, "") if splits else "train"
        inner_path, path = files[position]
        if not split:
            left_out[NO_SPLIT].append(inner_path)
            continue
        image_id = f"{split}/{inner_path}" if splits else inner_path
        patient = image.patient if has_patients else find_patient(inner_path)
        label, states, _ = image.meaning
        listed.append(SourceImage(path, split, label, image_id, None, patient, states))
    reasons = {reason: names for reason, names in left_out.items() if names}
    if not listed:
        counts = ", ".join(f"{reason} ({len(names):,})" for reason, names in reasons.items())
        raise InputError(f"{source}: no image is left to read. Left out: {counts}.")
    notes = [note for table in tables for note in table.notes]
    notes += [_describe_table(*pair) for pair in zip(tables, columns, strict=True)]
    if several := sum(len(rows) > 1 for rows in groups.values()):
        rule = settings.repeated_rows
        notes.append(f"Images with several rows: {several:,}. Rule: repeated_rows={rule!r}.")
    notes += [*labels.notes, *split_notes, *_describe_patients(listed, has_patients)]
    return Listing(
        sorted(listed, key=lambda image: image.image_id),
        labels.classes,
        has_splits=bool(splits),
        several_findings=labels.several_findings,
        left_out=reasons,
        notes=notes,
    )


def _find_files(source: Path, settings: ReaderSettings) -> _Source:
    everything = SourceFiles(list(walk_source(source)))
    by_split = settings.table if isinstance(settings.table, Mapping) else {"": settings.table or ""}
    tables, lists = (
        [
            (SPLIT_NAMES.get(split.casefold(), ""), _find_table(name, everything, source))
            for split, name in names.items()
        ]
        for names in (by_split, settings.split_lists or {})
    )
    used = {file.inner_path for _, file in (*tables, *lists)}
    explain = FileFilter(settings.include, settings.exclude, source=source).explain
    by_reason: dict[str | None, list[SourceFile]] = defaultdict(list)
    for file in everything.files:
        if file.inner_path not in used:
            by_reason[explain(file.inner_path)].append(file)
    images = SourceFiles(by_reason.pop(None, []))
    excluded = [x for reason, own in by_reason.items() if reason != NOT_IMAGES for x in own]
    left_out = {str(reason): [x.inner_path for x in own] for reason, own in by_reason.items()}
    return _Source(images, SourceFiles(excluded), left_out, tables, dict(lists))


def _find_table(name: str, files: SourceFiles, source: Path) -> SourceFile:
    """Returns a table below the source, or else below the current folder."""
    if not Path(name).is_absolute() and ".." not in Path(name).parts:
        found = files.find(clean_name(name, "table"))
        if len(found) > 1:
            raise InputError(
                f"{source} contains several files {name}: "
                f"{join_names([files.files[i].inner_path for i in found])}. "
                "Give the path below the source."
            )
        if found:
            return files.files[found[0]]
    if Path(name).is_file():
        return SourceFile(Path(name).name, Path(name))
    tables = [
        inner_path
        for inner_path, _ in files.files
        if Path(inner_path.casefold().removesuffix(".gz")).suffix in TABLE_SUFFIXES
    ]
    listed = did_you_mean(name, tables[:10]) if tables else "It contains no table."
    raise MissingData(f"No table {name} in {source}. {listed}")


def _check_any_image(reader: RowReader, column: str, found: _Source, source: Path) -> None:
    if reader.rows:
        return
    if not reader.missing:
        raise InputError(
            f"{source}: all images of the table are left out as masks, or by the settings include "
            "and exclude. Change these settings."
        )
    images = [file.inner_path for file in found.images.files[:3]]
    values = [row.name or "(empty)" for row in reader.missing[:3]]
    tables = [file.inner_path for _, file in found.tables]
    raise InputError(
        f"No row of {join_names(tables)} has an image in {source}. The {column} has values such as "
        f"{join_names(values)}; the source has images such as {join_names(images)}. "
        "Name the column with the setting image, or give the folder of the images."
    )


def _read_labels(
    reader: RowReader,
    groups: Mapping[int, Sequence[Row]],
    findings: Sequence[str],
    settings: ReaderSettings,
) -> Labels:
    if isinstance(settings.label, list | tuple):
        places: dict[tuple[str, ...], str] = {}
        for row in (*reader.rows, *reader.missing):
            if row.label not in places:
                places[row.label] = row.place
        return read_state_columns(findings, places, settings)
    counts = Counter(row.label for row in reader.rows)
    counts.update(dict.fromkeys((row.label for row in reader.missing), 0))
    repeated = ({row.label for row in own} for own in groups.values() if len(own) > 1)
    return read_label_column(counts, repeated, settings)


def _check_missing(
    reason: str, names: Sequence[str], settings: ReaderSettings, files: Sequence[SourceFile]
) -> None:
    if names and settings.on_missing == "error":
        problems = [
            f"{file.inner_path}: {problem}"
            for file in files
            if (problem := find_problem_of(file.path))
        ]
        hint = f"Not readable:\n  {join_names(problems, NEW_ROW)}\n" if problems else ""
        raise InputError(
            f"{len(names):,} {reason}:\n  {join_names(names, NEW_ROW)}\n{hint}"
            f"Add the images, or leave such {reason.split()[0]} out: "
            f"{propose_config(on_missing='leave_out')}"
        )


def _describe_table(table: Table, columns: Columns) -> str:
    recognized = f" Recognized: {', '.join(columns.notes)}." if columns.notes else ""
    kind = " It has no header, so its columns have numbers." if table.is_numbered else ""
    return f"Labels from {table.name}.{kind}{recognized}"


def _describe_patients(images: Sequence[SourceImage], by_column: bool) -> list[str]:
    patients = {image.patient_id for image in images} - {""}
    if patients:
        return [] if by_column else [f"Patients recognized in file names: {len(patients):,}."]
    return [
        "No patient is known, so images of one patient may be in several splits. "
        "Name the column with the setting patient."
    ]
