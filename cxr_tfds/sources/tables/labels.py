"""Decides what the labels of a table mean: a class, or the states of several findings."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.sources.image import State
from cxr_tfds.sources.negative import order_classes, sounds_negative
from cxr_tfds.sources.paths import join_names
from cxr_tfds.sources.settings import ReaderSettings, propose_config
from cxr_tfds.text import did_you_mean

Cells = tuple[str, ...]  # what a row states: one cell, or one for each column with a finding

NO_LABEL = "images without a label"
NOT_SELECTED = "images whose label is not in the setting classes"
SEVERAL = "images with several of the classes"
SEPARATOR = "|"
_STATES = (
    dict.fromkeys(("1", "true", "yes"), State.PRESENT)
    | dict.fromkeys(("0", "false", "no"), State.ABSENT)
    | {"-1": State.UNCERTAIN, "": State.UNKNOWN}
)
_MAX_CLASSES = 1000  # more are names or measurements
_MAX_SPELLINGS = 10  # in a note


class Meaning(NamedTuple):
    """What a row states about its image."""

    label: str = ""  # the class
    states: tuple[State, ...] = ()  # one for each finding
    reason: str = ""  # to leave the row out


class Labels(NamedTuple):
    """The meaning of all labels of a table."""

    classes: tuple[str, ...]  # the negative class first; or the findings
    several_findings: bool
    meanings: Mapping[Cells, Meaning]
    notes: list[str]


def combine_rows(states: Sequence[tuple[State, ...]]) -> tuple[State, ...]:
    """Returns the states of an image with several rows: present if any row states it."""
    order = (State.PRESENT, State.UNCERTAIN, State.ABSENT, State.UNKNOWN)
    return tuple(min(column, key=order.index) for column in zip(*states, strict=True))


def _merge_findings(states: Iterable[State]) -> State:
    """Returns the state of a finding that several findings are merged into."""
    found = set(states)
    order = (State.PRESENT, State.UNCERTAIN, State.UNKNOWN, State.ABSENT)
    return next(state for state in order if state in found)


def read_state_columns(
    columns: Sequence[str], lines: Mapping[Cells, str], settings: ReaderSettings
) -> Labels:
    """Returns the meaning of rows with one column for each finding.

    Cells are 1, 0, -1 (uncertain) or empty (unknown), or true, false, yes, no. A column such as
    "No Finding" is not a finding: if it is 1, the empty cells of the row mean absent.

    Args:
      columns: Names of the columns.
      lines: Distinct cells of the rows, to the table and line where they occur first.
      settings: Its `classes` select, rename and merge columns.

    Raises:
      InputError: A cell has another value, or `classes` names an unknown column.
    """
    if settings.negative:
        is_negative = [name.casefold() == settings.negative.casefold() for name in columns]
    else:
        is_negative = [settings.negative is None and sounds_negative(n, columns) for n in columns]
    names = [n for n, negative in zip(columns, is_negative, strict=True) if not negative]
    if not names:
        raise InputError(f"label={list(columns)!r}: none of these columns is a finding. Add one.")
    groups = _group_classes(settings.classes, names) or {name: [name] for name in names}
    position = {_normalize(name): i for i, name in enumerate(columns)}
    merged = {
        name: [position[key] for key in map(_normalize, group)] for name, group in groups.items()
    }
    meanings = {}
    for cells, where in lines.items():
        states = [
            _parse_state(cell, name, where) for cell, name in zip(cells, columns, strict=True)
        ]
        present = zip(states, is_negative, strict=True)
        if any(negative and state == State.PRESENT for state, negative in present):
            states = [State.ABSENT if state == State.UNKNOWN else state for state in states]
        found = tuple(_merge_findings(states[i] for i in own) for own in merged.values())
        meanings[cells] = Meaning(states=found)
    notes = []
    if any(is_negative):
        left = join_names([n for n, negative in zip(columns, is_negative, strict=True) if negative])
        notes.append(f"{left} is not a finding: if it is 1, empty cells mean absent.")
    return Labels(tuple(groups), True, meanings, notes)


def _parse_state(cell: str, column: str, where: str) -> State:
    text = cell.casefold()
    if text not in _STATES:
        text = re.sub(r"\.0+$", "", text)
    if text not in _STATES:
        raise InputError(
            f"{where}: {column!r} has the value {cell[:50]!r}. Expected 1 (present), 0 (absent), "
            "-1 (uncertain) or an empty cell (unknown); true, false, yes and no also work."
        )
    return _STATES[text]


def read_label_column(
    counts: Counter[Cells], repeated: Iterable[set[Cells]], settings: ReaderSettings
) -> Labels:
    """Returns the meaning of rows with one column for the class, or for several findings.

    An image may have several findings if a cell has the form "A|B", or if `repeated_rows` is "any"
    and an image has rows with different findings. "No Finding" then means that all are absent. But
    if `classes` names a negative label such as "No Finding", each image has one class.

    Args:
      counts: Distinct cells of the rows, and how many of these rows have an image.
      repeated: For each image with several rows, their different cells.
      settings: Its `classes` select, rename and merge labels.

    Raises:
      InputError: There are fewer than two classes, far too many, or the negative class is unclear.
    """
    parts = {cells: split_label(cells[0]) for cells in counts}
    if all(re.fullmatch(r"-?\d+(\.0+)?", part) for own in parts.values() for part in own):
        parts = {cells: [part.partition(".")[0] for part in own] for cells, own in parts.items()}
    spellings, notes = _choose_spellings(parts, counts)
    keys = {cells: list(dict.fromkeys(map(_normalize, own))) for cells, own in parts.items()}
    names = sorted(spellings.values())  # of rows with an image
    if len(names) > _MAX_CLASSES:
        raise InputError(
            f"The label column has {len(names):,} different values, such as "
            f"{join_names(names[:3])}. "
            f"Expected classes, at most {_MAX_CLASSES:,}. Give another column as label."
        )
    if not names:
        raise InputError("No image has a label. Give another column as label.")
    if settings.classes is None and "-1" in names and {*names} <= {"-1", "0", "1"}:
        raise InputError(
            f"The label column has the values {join_names(names)}. To read 1, 0 and -1 as present, "
            f"absent and uncertain, give a list of columns: --config "
            f"{propose_config(settings, label=[settings.label or 'LABEL_COLUMN'])}"
        )
    negatives = {_normalize(n) for n in names if _is_negative(n, names, settings)}
    groups = _group_classes(settings.classes, names)
    class_keys = {_normalize(x): name for name, group in (groups or {}).items() for x in group}
    is_single = bool(negatives & class_keys.keys())
    if not is_single and _has_several(keys, repeated, negatives, settings.repeated_rows == "any"):
        return _read_findings(keys, spellings, negatives, groups, notes)
    if groups is None:
        class_keys = spellings
    meanings = {cells: _choose_class(own, class_keys) for cells, own in keys.items()}
    classes = list(groups or sorted(class_keys.values()))
    if len(classes) < 2:
        raise InputError(
            f"All rows have the label {join_names(classes)}. Expected two or more classes. "
            "Give another column as label."
        )
    are_given = settings.classes is not None
    return Labels(
        order_classes(classes, settings.negative, are_given=are_given), False, meanings, notes
    )


def split_label(cell: str) -> list[str]:
    """Returns the labels in a cell: "A|B", or a list of quoted texts such as "['A', 'B']"."""
    if cell.startswith("[") and cell.endswith("]"):
        found = re.findall(r"'([^']*)'|\"([^\"]*)\"", cell)
        return [text for pair in found if (text := "".join(pair).strip())]
    return [text for part in cell.split(SEPARATOR) if (text := part.strip())]


def _normalize(name: str) -> str:
    return " ".join(name.split()).casefold()


def _is_negative(name: str, names: Sequence[str], settings: ReaderSettings) -> bool:
    if settings.negative is not None:
        return name.casefold() == settings.negative.casefold()
    return sounds_negative(name, names)


def _choose_spellings(
    parts: Mapping[Cells, Sequence[str]], counts: Counter[Cells]
) -> tuple[dict[str, str], list[str]]:
    """Returns normalized label to its most frequent spelling, and a note on other spellings."""
    frequency: dict[str, Counter[str]] = defaultdict(Counter)
    for cells, own in parts.items():
        for part in own if counts[cells] else ():
            frequency[_normalize(part)][part] += counts[cells]
    chosen = {
        key: " ".join(max(sorted(own), key=own.__getitem__).split())
        for key, own in frequency.items()
    }
    several = [
        " = ".join(map(repr, sorted(own, key=lambda x: -own[x])[:_MAX_SPELLINGS]))
        for own in frequency.values()
        if len(own) > 1
    ]
    note = f"Labels that differ only in case or spaces are one class: {join_names(several)}."
    return chosen, [note] if several else []


def _group_classes(
    classes: Sequence[str] | Mapping[str, Sequence[str]] | None, names: Sequence[str]
) -> dict[str, list[str]] | None:
    """Returns class to labels of the table, or None if the user gave no classes.

    Raises InputError if a label is in two classes, or a class has no label of the table.
    """
    if classes is None:
        return None
    given = classes if isinstance(classes, Mapping) else {name: [name] for name in classes}
    known = {_normalize(name) for name in names}
    owners: dict[str, str] = {}
    for name, group in given.items():
        for text in group:
            if owners.setdefault(_normalize(text), name) != name:
                raise InputError(f"classes: {text!r} is in {owners[_normalize(text)]} and {name}.")
        if not known & set(map(_normalize, group)):
            problem = did_you_mean(group[0], names[:10])
            raise InputError(f"classes: no image has a label of the class {name!r}. {problem}")
    return {
        name: [text for text in group if _normalize(text) in known] for name, group in given.items()
    }


def _has_several(
    keys: Mapping[Cells, Sequence[str]],
    repeated: Iterable[set[Cells]],
    negatives: set[str],
    combines: bool,
) -> bool:
    if any(len(own) > 1 for own in keys.values()):
        return True
    return combines and any(
        len({key for cells in own for key in keys[cells]} - negatives) > 1 for own in repeated
    )


def _read_findings(
    keys: Mapping[Cells, Sequence[str]],
    spellings: Mapping[str, str],
    negatives: set[str],
    groups: Mapping[str, Sequence[str]] | None,
    notes: list[str],
) -> Labels:
    findings = sorted(name for key, name in spellings.items() if key not in negatives)
    groups = groups or {name: [name] for name in findings}
    merged = [set(map(_normalize, group)) for group in groups.values()]
    meanings = {
        cells: Meaning(
            states=tuple(State.PRESENT if own & set(found) else State.ABSENT for own in merged)
        )
        if found
        else Meaning(reason=NO_LABEL)
        for cells, found in keys.items()
    }
    if ignored := {key for key in spellings if key not in negatives} - set().union(*merged):
        names = sorted(spellings[key] for key in ignored)
        notes.append(f"Findings that are not in the setting classes: {join_names(names)}.")
    if negatives:
        names = sorted(spellings[key] for key in negatives)
        notes.append(f"{join_names(names)} means that all findings are absent.")
    return Labels(tuple(groups), True, meanings, notes)


def _choose_class(keys: Sequence[str], class_keys: Mapping[str, str]) -> Meaning:
    found = {class_keys[key] for key in keys if key in class_keys}
    if len(found) == 1:
        return Meaning(label=found.pop())
    return Meaning(reason=(SEVERAL if found else NOT_SELECTED) if keys else NO_LABEL)
