"""Combines the rows of each image, and finds its split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.sources.paths import NEW_ROW, join_names
from cxr_tfds.sources.settings import ReaderSettings, propose_config
from cxr_tfds.sources.tables.columns import is_image_column
from cxr_tfds.sources.tables.files import SourceFiles
from cxr_tfds.sources.tables.labels import NO_LABEL, Labels, Meaning, combine_rows
from cxr_tfds.sources.tables.rows import Row, RowReader, parse_split
from cxr_tfds.sources.tables.table import Table

CONFLICT = "images whose rows contradict each other"


class LabelledImage(NamedTuple):
    """What all rows of an image state together."""

    meaning: Meaning
    patient: str
    split: str  # as the table has it


def combine_rows_of_images(
    groups: Mapping[int, Sequence[Row]],
    labels: Labels,
    tables: Sequence[Table],
    files: SourceFiles,
    settings: ReaderSettings,
    left_out: dict[str, list[str]],
) -> dict[int, LabelledImage]:
    """Returns position to what the rows of the image state. The others are added to `left_out`.

    Raises:
      InputError: Rows contradict each other, and the settings do not leave such images out.
    """
    images: dict[int, LabelledImage] = {}
    conflicts: dict[int, str] = {}
    for position, rows in groups.items():
        if len(rows) == 1:
            meaning: Meaning | None = labels.meanings[rows[0].label]
        else:
            meaning = _combine_meanings(
                [labels.meanings[row.label] for row in rows], labels, settings
            )
        patients = {row.patient for row in rows} - {""}
        splits = {row.split for row in rows} - {""}
        path = files.files[position].inner_path
        if meaning is None or len(patients) > 1 or len(splits) > 1:
            conflicts[position] = f"{path}: {_describe_conflict(rows, tables)}"
        elif meaning.reason:
            left_out.setdefault(meaning.reason, []).append(path)
        else:
            patient = next(iter(patients), "")
            images[position] = LabelledImage(meaning, patient, next(iter(splits), ""))
    if conflicts and settings.on_conflict == "error":
        hint = ""
        if settings.repeated_rows == "same":
            config = propose_config(settings, repeated_rows="any")
            hint = f"\nOr take a finding as present if any row states it: --config {config}"
        raise InputError(
            f"{len(conflicts):,} {CONFLICT}:\n  {join_names(list(conflicts.values()), NEW_ROW)}\n"
            "Correct the rows, or leave such images out: --config "
            f"{propose_config(settings, on_conflict='leave_out')}{hint}"
        )
    left_out.setdefault(CONFLICT, []).extend(files.files[i].inner_path for i in conflicts)
    return images


def _combine_meanings(
    meanings: Sequence[Meaning], labels: Labels, settings: ReaderSettings
) -> Meaning | None:
    """Returns what several rows state together, or None if they contradict each other."""
    distinct = dict.fromkeys(meaning for meaning in meanings if meaning.reason != NO_LABEL)
    if len(distinct) < 2:
        return next(iter(distinct), Meaning(reason=NO_LABEL))
    if settings.repeated_rows == "same":
        return None
    stated = [meaning for meaning in distinct if not meaning.reason]
    if len(stated) < 2:
        return stated[0] if stated else next(iter(distinct))
    if labels.several_findings:
        return Meaning(states=combine_rows([meaning.states for meaning in stated]))
    negative = None if settings.negative == "" else labels.classes[0]
    positive = [meaning for meaning in stated if meaning.label != negative]
    return positive[0] if len(positive) == 1 else None


def _describe_conflict(rows: Sequence[Row], tables: Sequence[Table]) -> str:
    """Returns the first row of each different statement."""
    first: dict[tuple[object, ...], str] = {}
    for row in rows:
        texts = [" ".join(filter(None, row.label)) or "(empty)"]
        texts += [f"patient {row.patient}"] if row.patient else []
        texts += [f"split {row.split}"] if row.split else []
        where = f"{tables[row.table].name}, line {row.line}"
        first.setdefault((row.label, row.patient, row.split), f"{', '.join(texts)} ({where})")
    return join_names(list(first.values()), "; ")


def read_splits(
    images: Mapping[int, LabelledImage], settings: ReaderSettings
) -> tuple[dict[int, str], list[str]]:
    """Returns position to split, from the table, and notes; nothing without splits.

    Images whose split is empty get "".

    Raises:
      InputError: The column that the user named has a value that is not a split.
    """
    texts = sorted({image.split for image in images.values()})
    splits = {text: parse_split(text) if text else "" for text in texts}
    unknown = [text for text, split in splits.items() if split is None]
    if unknown and settings.split_column:
        raise InputError(
            f"The split column has the values {join_names(unknown)}. Expected train, val and test, "
            "or the numbers of folds."
        )
    if unknown:
        return {}, [f"The split column is ignored: its values are {join_names(unknown)}."]
    if not any(texts):
        return {}, []
    return {i: splits[image.split] or "" for i, image in images.items()}, []


def match_lists(
    lists: Mapping[str, tuple[str, Sequence[tuple[int, str]]]],
    reader: RowReader,
    files: SourceFiles,
    settings: ReaderSettings,
) -> tuple[dict[int, str], list[str]]:
    """Returns position of the image to split, and the listed names without an image.

    Args:
      lists: Split to the name of the list, and its lines with their numbers.
      reader: Finds the images.
      files: The images.
      settings: What to do with names without an image.

    Raises:
      InputError: An image is in two lists, or a name has no image or several.
    """
    splits: dict[int, str] = {}
    twice: list[str] = []
    missing: list[str] = []
    for split, (name, lines) in lists.items():
        for number, text in lines:
            position = reader.find_listed(text, name.rpartition("/")[0], f"{name}, line {number}")
            if position == -1 and not (number == lines[0][0] and is_image_column(text)):
                missing.append(f"{text} ({name}, line {number})")
            elif position is not None and splits.setdefault(position, split) != split:
                twice.append(f"{files.files[position].inner_path}: {splits[position]}, {split}")
    if twice:
        raise InputError(
            f"{len(twice):,} images in two lists of split_lists:\n  {join_names(twice, NEW_ROW)}\n"
            "Remove each from one of the lists."
        )
    if missing and settings.on_missing == "error":
        raise InputError(
            f"{len(missing):,} lines of split_lists whose image does not exist:\n  "
            f"{join_names(missing, NEW_ROW)}\nAdd the images, or leave such lines out: --config "
            f"{propose_config(settings, on_missing='leave_out')}"
        )
    splits.pop(-1, None)
    return splits, missing
