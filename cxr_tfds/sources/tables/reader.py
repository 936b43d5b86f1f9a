"""Lists the images of a source whose labels are in a table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources.image import Listing, SourceImage
from cxr_tfds.sources.masks import NOT_IMAGES, FileFilter
from cxr_tfds.sources.paths import NEW_ROW, SPLIT_NAMES, check_links, join_names
from cxr_tfds.sources.patients import find_patient
from cxr_tfds.sources.settings import ReaderSettings, propose_config
from cxr_tfds.sources.tables import labels as table_labels
from cxr_tfds.sources.tables.columns import (
    Columns,
    find_columns,
)
from cxr_tfds.sources.tables.files import SourceFile, SourceFiles, clean_name, walk_source
from cxr_tfds.sources.tables.images import (
    LabelledImage,
    combine_rows_of_images,
    match_lists,
    read_splits,
)
from cxr_tfds.sources.tables.labels import NOT_SELECTED, Labels
from cxr_tfds.sources.tables.opening import TABLE_SUFFIXES, open_table, read_list
from cxr_tfds.sources.tables.rows import (
    Row,
    RowReader,
    describe_missing,
    group_rows,
)
from cxr_tfds.sources.tables.table import EditTable, Table
from cxr_tfds.text import did_you_mean

MISSING = "rows whose image does not exist"
MISSING_LINES = "lines of split_lists whose image does not exist"
NO_ROW = "images without a row"
NO_SPLIT = "images without a split"


class _Source(NamedTuple):
    images: SourceFiles
    excluded: SourceFiles  # masks, and what the settings exclude
    left_out: dict[str, list[str]]
    tables: list[SourceFile]
    splits: list[str]  # of each table; "" if a column or a list has it
    lists: dict[str, SourceFile]  # split to the list of its images


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
    names = [settings.image, settings.patient, settings.split_column]
    names += [settings.label] if isinstance(settings.label, str) else settings.label or ()
    wanted = [name for name in names if name]
    tables = [open_table(file.path, file.inner_path, wanted) for file in found.tables]
    tables = [edit(table) for table in tables] if edit else tables
    columns = [find_columns(table, settings, found.images) for table in tables]
    reader = RowReader(found.images, found.excluded, settings)
    for number, (file, table) in enumerate(zip(found.tables, tables, strict=True)):
        folder = file.inner_path.rpartition("/")[0]
        reader.read(number, table, columns[number], folder, found.splits[number])
    reader.accept_loose_matches()
    _check_any_image(reader, tables, columns, found, source)
    groups = group_rows(reader.rows)
    labels = _read_labels(reader, groups, tables, columns, settings)
    left_out = defaultdict(list, found.left_out)
    notes = [note for table in tables for note in table.notes]
    notes += [_describe_table(*pair) for pair in zip(tables, columns, strict=True)]
    _handle_missing(reader, labels, tables, settings, left_out)
    images = combine_rows_of_images(groups, labels, tables, found.images, settings, left_out)
    files = found.images.files
    left_out[NO_ROW] += [file.inner_path for i, file in enumerate(files) if i not in groups]
    if several := sum(len(rows) > 1 for rows in groups.values()):
        rule = settings.repeated_rows
        notes.append(f"Images with several rows: {several:,}. Rule: repeated_rows={rule!r}.")
    splits, split_notes = _find_splits(images, reader, found, settings, left_out)
    has_patients = any(own.patient is not None for own in columns)
    listed = []
    for position, image in images.items():
        split = splits.get(position, "") if splits else "train"
        inner_path, path = files[position]
        if split:
            image_id = f"{split}/{inner_path}" if splits else inner_path
            patient = image.patient if has_patients else find_patient(inner_path)
            label, states = image.meaning.label, image.meaning.states
            listed.append(SourceImage(path, split, label, image_id, None, patient, states))
        else:
            left_out[NO_SPLIT].append(inner_path)
    reasons = {reason: names for reason, names in left_out.items() if names}
    if not listed:
        counts = ", ".join(f"{reason} ({len(names):,})" for reason, names in reasons.items())
        raise InputError(f"{source}: no image is left to read. Left out: {counts}.")
    check_links(source, [image.path for image in listed])
    return Listing(
        sorted(listed, key=lambda image: image.image_id),
        labels.classes,
        has_splits=bool(splits),
        several_findings=labels.several_findings,
        left_out=reasons,
        notes=(
            *notes,
            *labels.notes,
            *split_notes,
            *_describe_patients(listed, has_patients),
        ),
    )


def _find_files(source: Path, settings: ReaderSettings) -> _Source:
    everything = list(walk_source(source))
    file_filter = FileFilter(settings.include, settings.exclude)
    reasons = [file_filter.explain(file.inner_path) for file in everything]
    others = SourceFiles([f for f, r in zip(everything, reasons, strict=True) if r == NOT_IMAGES])
    by_split = settings.table if isinstance(settings.table, Mapping) else {"": settings.table or ""}
    tables = [_find_table(name, others, everything, source) for name in by_split.values()]
    lists = {
        SPLIT_NAMES[split.casefold()]: _find_table(name, others, everything, source)
        for split, name in (settings.split_lists or {}).items()
    }
    used = {file.inner_path for file in (*tables, *lists.values())}
    images, excluded = [], []
    left_out: dict[str, list[str]] = {}
    for file, reason in zip(everything, reasons, strict=True):
        if file.inner_path in used:
            continue
        if reason is None:
            images.append(file)
            continue
        left_out.setdefault(reason, []).append(file.inner_path)
        if reason != NOT_IMAGES:
            excluded.append(file)
    splits = [SPLIT_NAMES[split.casefold()] if split else "" for split in by_split]
    return _Source(SourceFiles(images), SourceFiles(excluded), left_out, tables, splits, lists)


def _find_table(
    name: str, others: SourceFiles, everything: Sequence[SourceFile], source: Path
) -> SourceFile:
    """Returns a table below the source, or else below the current folder."""
    if not Path(name).is_absolute() and ".." not in Path(name).parts:
        files = others
        found = files.find(clean_name(name, "table"))
        if not found:
            files = SourceFiles(everything)
            found = files.find(clean_name(name, "table"))
        if len(found) > 1:
            paths = [files.files[i].inner_path for i in found]
            raise InputError(
                f"{source} contains several files {name}: {join_names(paths)}. "
                "Give the path below the source."
            )
        if found:
            return files.files[found[0]]
    if Path(name).is_file():
        return SourceFile(Path(name).name, Path(name))
    tables = [
        file.inner_path
        for file in others.files
        if Path(file.inner_path.casefold().removesuffix(".gz")).suffix in TABLE_SUFFIXES
    ]
    listed = f"{did_you_mean(name, tables[:10])}" if tables else "It contains no table."
    raise MissingData(f"No table {name} in {source}. {listed}")


def _check_any_image(
    reader: RowReader,
    tables: Sequence[Table],
    columns: Sequence[Columns],
    found: _Source,
    source: Path,
) -> None:
    if reader.rows:
        return
    if not reader.missing:
        raise InputError(
            f"{source}: all images of the table are left out as masks, or by the settings include "
            "and exclude. Change these settings."
        )
    images = [file.inner_path for file in found.images.files[:3]]
    values = [row.name or "(empty)" for row in reader.missing[:3]]
    column = tables[0].columns[columns[0].image]
    raise InputError(
        f"No row of {join_names([table.name for table in tables])} has an image in {source}. The "
        f"column {column!r} has values such as {join_names(values)}; the source has images such as "
        f"{join_names(images)}. Name the column with the setting image, or give the folder of the "
        "images."
    )


def _read_labels(
    reader: RowReader,
    groups: Mapping[int, Sequence[Row]],
    tables: Sequence[Table],
    columns: Sequence[Columns],
    settings: ReaderSettings,
) -> Labels:
    rows = [*reader.rows, *reader.missing]
    if isinstance(settings.label, list | tuple):
        first: dict[tuple[str, ...], str] = {}
        for row in rows:
            if row.label not in first:
                first[row.label] = f"{tables[row.table].name}, line {row.line}"
        names = [tables[0].columns[i] for i in columns[0].labels]
        return table_labels.read_state_columns(names, first, settings)
    counts = Counter(row.label for row in reader.rows)
    counts.update(dict.fromkeys((row.label for row in reader.missing), 0))
    repeated = ({row.label for row in own} for own in groups.values() if len(own) > 1)
    return table_labels.read_label_column(counts, repeated, settings)


def _handle_missing(
    reader: RowReader,
    labels: Labels,
    tables: Sequence[Table],
    settings: ReaderSettings,
    left_out: dict[str, list[str]],
) -> None:
    """Leaves out rows whose image does not exist, or refuses them."""
    missing = [
        row
        for row in reader.missing
        if settings.classes is None or labels.meanings[row.label].reason != NOT_SELECTED
    ]
    names = describe_missing(missing, tables)
    if names and settings.on_missing == "error":
        raise InputError(
            f"{len(names):,} rows whose image does not exist:\n  {join_names(names, NEW_ROW)}\n"
            "Add the images, or leave such rows out: --config "
            f"{propose_config(settings, on_missing='leave_out')}"
        )
    left_out[MISSING] += names


def _find_splits(
    images: Mapping[int, LabelledImage],
    reader: RowReader,
    found: _Source,
    settings: ReaderSettings,
    left_out: dict[str, list[str]],
) -> tuple[dict[int, str], list[str]]:
    """Returns position to split, and notes; nothing if the source has no splits."""
    if not found.lists:
        return read_splits(images, settings)
    lists = {
        split: (file.inner_path, read_list(file.path, file.inner_path))
        for split, file in found.lists.items()
    }
    splits, missing = match_lists(lists, reader, found.images, settings)
    left_out[MISSING_LINES] += missing
    return splits, []


def _describe_patients(images: Sequence[SourceImage], by_column: bool) -> list[str]:
    patients = {image.patient_id for image in images} - {""}
    if patients:
        return [] if by_column else [f"Patients recognized in file names: {len(patients):,}."]
    return [
        "No patient is known, so images of one patient may be in several splits. "
        "Name the column with the setting patient."
    ]


def _describe_table(table: Table, columns: Columns) -> str:
    recognized = f" Recognized: {', '.join(columns.notes)}." if columns.notes else ""
    kind = " It has no header, so its columns have numbers." if table.is_numbered else ""
    return f"Labels from {table.name}.{kind}{recognized}"
