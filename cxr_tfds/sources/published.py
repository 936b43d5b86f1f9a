"""What the builders of published datasets with tables share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from cxr_tfds.sources.image import Listing, SourceImage, State
from cxr_tfds.sources.paths import join_names
from cxr_tfds.sources.settings import ReaderSettings
from cxr_tfds.sources.tables.files import walk_source
from cxr_tfds.sources.tables.labels import ORDER_OF_FINDINGS
from cxr_tfds.sources.tables.reader import list_table_images
from cxr_tfds.sources.tables.table import EditTable, Rows, Table


def list_file_names(source: Path) -> set[str]:
    """Returns the names of all files of a source and of its archives, without their folders.

    Raises:
      MissingData: The source does not exist.
    """
    return {file.inner_path.rpartition("/")[2] for file in walk_source(source)}


def select_findings(listing: Listing, findings: Mapping[str, Sequence[str]]) -> Listing:
    """Returns a listing with these findings, also if no image of a part of the dataset has one.

    A finding is present if any of its labels is. A label that no image has is absent.

    Args:
      listing: Images with several findings, or with one class each.
      findings: Name of each finding to its labels, which are compared without case.
    """
    position = {name.casefold(): i for i, name in enumerate(listing.classes)}
    labels = [[label.casefold() for label in own] for own in findings.values()]

    def select(image: SourceImage) -> tuple[State, ...]:
        if not image.states:
            own_label = image.label.casefold()
            return tuple(State.PRESENT if own_label in own else State.ABSENT for own in labels)
        found = ([image.states[position[x]] for x in own if x in position] for own in labels)
        return tuple(
            min(states, key=ORDER_OF_FINDINGS.index, default=State.ABSENT) for states in found
        )

    known: dict[tuple[object, ...], tuple[State, ...]] = {}  # many images have equal states
    images = []
    for image in listing.images:
        key = (image.label, image.states)
        if key not in known:
            known[key] = select(image)
        images.append(image._replace(label="", states=known[key]))
    return listing._replace(images=images, classes=tuple(findings), several_findings=True)


def list_known_columns(
    source: Path, settings: ReaderSettings, edit: EditTable | None = None
) -> Listing:
    """Returns the images of tables that may lack some of the columns in `settings.label`.

    A finding is unknown in the tables that lack its column, and left out if all tables lack it.

    Args:
      source: Folder or archive with the images and the tables.
      settings: How to read it; `label` is a list of columns.
      edit: Returns a table with the rows to read.

    Raises:
      InputError: See `list_table_images`.
    """
    lacking: dict[str, list[str]] = {}  # table to columns

    def complete(table: Table) -> Table:
        table = edit(table) if edit else table
        known = {column.casefold() for column in table.columns}
        missing = [name for name in settings.label or () if name.casefold() not in known]
        if len(missing) == len(settings.label or ()):
            return table  # another table, which the reader refuses
        lacking[table.name] = missing
        return _add_columns(table, missing)

    listing = list_table_images(source, settings, complete)
    if not any(lacking.values()):
        return listing
    notes = [
        f"{table} has no column {join_names(missing)}."
        for table, missing in lacking.items()
        if missing
    ]
    listing = listing._replace(notes=[*listing.notes, *notes])
    kept = {
        name: [name]
        for name in listing.classes
        if not all(name in missing for missing in lacking.values())
    }
    return listing if settings.classes is not None else select_findings(listing, kept)


def _add_columns(table: Table, names: Sequence[str]) -> Table:
    """Returns a table with more columns, which are empty."""
    width = len(table.columns)

    def read_rows() -> Rows:
        for line, row in table.read_rows():
            new = [""] * (max(width - len(row), 0) + len(names))
            yield line, [*row[:width], *new, *row[width:]]  # the reader refuses more cells

    return dataclasses.replace(table, columns=(*table.columns, *names), read_rows=read_rows)
