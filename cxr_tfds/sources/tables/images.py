"""Combines the rows of each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.sources.config_json import propose_config
from cxr_tfds.sources.paths import NEW_ROW, join_names
from cxr_tfds.sources.settings import ReaderSettings
from cxr_tfds.sources.tables.files import SourceFile
from cxr_tfds.sources.tables.labels import NO_LABEL, Labels, Meaning, combine_rows
from cxr_tfds.sources.tables.rows import Row

CONFLICT = "images whose rows contradict each other"


class LabelledImage(NamedTuple):
    """What all rows of an image state together."""

    meaning: Meaning
    patient: str
    split: str  # as the table has it


def combine_rows_of_images(
    groups: Mapping[int, Sequence[Row]],
    labels: Labels,
    files: Sequence[SourceFile],
    settings: ReaderSettings,
    left_out: dict[str, list[str]],
) -> dict[int, LabelledImage]:
    """Returns position to what the rows of the image state. The others are added to `left_out`.

    Raises InputError if rows contradict each other, and the settings do not leave such images out.
    """
    images: dict[int, LabelledImage] = {}
    conflicts: dict[str, str] = {}  # path to explanation
    for position, rows in groups.items():
        first = rows[0]
        meaning: Meaning | None = labels.meanings[first.label]
        patient, split = first.patient, first.split
        path = files[position].inner_path
        if len(rows) > 1:
            meaning = _combine_meanings(rows, labels, settings)
            patients = {row.patient for row in rows} - {""}
            splits = {row.split for row in rows} - {""}
            if len(patients) > 1 or len(splits) > 1:
                meaning = None
            patient, split = "".join(patients), "".join(splits)
        if meaning is None:
            conflicts[path] = f"{path}: {_describe_conflict(rows)}"
        elif meaning.reason:
            left_out.setdefault(meaning.reason, []).append(path)
        else:
            images[position] = LabelledImage(meaning, patient, split)
    if conflicts and settings.on_conflict == "error":
        config = propose_config(repeated_rows="any")
        hint = f"\nOr take a finding as present if any row states it: {config}"
        raise InputError(
            f"{len(conflicts):,} {CONFLICT}:\n  {join_names(list(conflicts.values()), NEW_ROW)}\n"
            "Correct the rows, or leave such images out: "
            f"{propose_config(on_conflict='leave_out')}"
            f"{hint if settings.repeated_rows == 'same' else ''}"
        )
    left_out.setdefault(CONFLICT, []).extend(conflicts)
    return images


def _combine_meanings(
    rows: Sequence[Row], labels: Labels, settings: ReaderSettings
) -> Meaning | None:
    """Returns what several rows state together, or None if they contradict each other."""
    distinct = dict.fromkeys(row.label for row in rows)
    meanings = dict.fromkeys(labels.meanings[cells] for cells in distinct)
    meanings.pop(Meaning(reason=NO_LABEL), None)
    if len(meanings) < 2:
        return next(iter(meanings), Meaning(reason=NO_LABEL))
    if settings.repeated_rows == "same":
        return None
    stated = [meaning for meaning in meanings if not meaning.reason]
    if len(stated) < 2:
        return (stated or list(meanings))[0]
    if labels.several_findings:
        return Meaning(states=combine_rows([meaning.states for meaning in stated]))
    negative = None if settings.negative == "" else labels.classes[0]
    positive = [meaning for meaning in stated if meaning.label != negative]
    return positive[0] if len(positive) == 1 else None


def _describe_conflict(rows: Sequence[Row]) -> str:
    """Returns the first row of each different statement."""
    first: dict[tuple[object, ...], str] = {}
    for row in rows:
        text = " ".join(filter(None, row.label)) or "(empty)"
        text += f", patient {row.patient}" * bool(row.patient)
        text += f", split {row.split}" * bool(row.split)
        first.setdefault((row.label, row.patient, row.split), f"{text} ({row.place})")
    return join_names(list(first.values()), "; ")
