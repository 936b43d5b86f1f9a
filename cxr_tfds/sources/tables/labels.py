"""Decides what the labels of a table mean: a class, or the states of several findings."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.sources.config_json import propose_config
from cxr_tfds.sources.image import State
from cxr_tfds.sources.negative import order_classes, sounds_negative
from cxr_tfds.sources.paths import fold_name, join_names
from cxr_tfds.sources.settings import ReaderSettings
from cxr_tfds.text import did_you_mean

Cells = tuple[str, ...]  # what a row states: one cell, or one for each column with a finding

NO_LABEL = "images without a label"
NOT_SELECTED = "images whose label is not in the setting classes"
SEVERAL = "images with several of the classes"
_STATES = (
    dict.fromkeys(("1", "true", "yes"), State.PRESENT)
    | dict.fromkeys(("0", "false", "no"), State.ABSENT)
    | {"-1": State.UNCERTAIN, "": State.UNKNOWN}
)
# The first state that any row of an image, or any of the merged findings, has.
_ORDER_OF_ROWS = (State.PRESENT, State.UNCERTAIN, State.ABSENT, State.UNKNOWN)
ORDER_OF_FINDINGS = (State.PRESENT, State.UNCERTAIN, State.UNKNOWN, State.ABSENT)
_MAX_CLASSES = 1000  # more are names or measurements


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
    notes: Sequence[str]


def combine_rows(states: Sequence[tuple[State, ...]]) -> tuple[State, ...]:
    """Returns the states of an image with several rows: present if any row states it."""
    return tuple(min(own, key=_ORDER_OF_ROWS.index) for own in zip(*states, strict=True))


def read_state_columns(
    columns: Sequence[str], places: Mapping[Cells, str], settings: ReaderSettings
) -> Labels:
    """Returns the meaning of rows with one column for each finding.

    Cells are 1, 0, -1 (uncertain) or empty (unknown), or true, false, yes, no. A column such as
    "No Finding" is not a finding: if it is 1, the empty cells of the row mean absent. The setting
    `classes` selects, renames and merges columns. `places` has the distinct cells of the rows, and
    the table and line where they occur first.
    """
    negatives = _find_negatives(columns, settings)
    names = [name for name in columns if fold_name(name) not in negatives]
    if not names:
        raise InputError(f"label={list(columns)!r}: none of these columns is a finding. Add one.")
    groups = _group_classes(settings.classes, names)
    positions = {fold_name(name): i for i, name in enumerate(columns)}
    merged = [[positions[fold_name(text)] for text in group] for group in groups.values()]
    meanings = {}
    for cells, place in places.items():
        states = [_parse_state(*pair, place) for pair in zip(cells, columns, strict=True)]
        if any(states[positions[key]] == State.PRESENT for key in negatives):
            states = [State.ABSENT if state == State.UNKNOWN else state for state in states]
        found = (min((states[i] for i in own), key=ORDER_OF_FINDINGS.index) for own in merged)
        meanings[cells] = Meaning(states=tuple(found))
    left = join_names([columns[positions[key]] for key in negatives])
    note = f"{left} is not a finding: if it is 1, empty cells mean absent."
    return Labels(tuple(groups), True, meanings, [note] if negatives else [])


def _parse_state(cell: str, column: str, place: str) -> State:
    state = _STATES.get(re.sub(r"\.0+$", "", cell.casefold()))
    if state is None:
        raise InputError(
            f"{place}: {column!r} has the value {cell[:50]!r}. Expected 1 (present), 0 (absent), "
            "-1 (uncertain) or an empty cell (unknown); true, false, yes and no also work."
        )
    return state


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
    """
    parts = {cells: split_label(cells[0]) for cells in counts}
    if all(re.fullmatch(r"-?\d+(\.0+)?", part) for own in parts.values() for part in own):
        parts = {cells: [part.partition(".")[0] for part in own] for cells, own in parts.items()}
    keys = {cells: set(map(fold_name, own)) for cells, own in parts.items()}
    spellings, notes = _choose_spellings(parts, counts)
    names = sorted(spellings.values())  # of rows with an image
    _check_names(names, settings)
    negatives = _find_negatives(names, settings)
    groups = _group_classes(settings.classes, names)
    class_of = {fold_name(text): name for name, group in groups.items() for text in group}
    names_negative = settings.classes is not None and not negatives.isdisjoint(class_of)
    if not names_negative and _has_several(keys, repeated, negatives, settings):
        findings = {key: name for key, name in class_of.items() if key not in negatives}
        if ignored := sorted(spellings[key] for key in spellings.keys() - findings - negatives):
            notes.append(f"Findings that are not in the setting classes: {join_names(ignored)}.")
        if negatives:
            left = join_names(sorted(spellings[key] for key in negatives))
            notes.append(f"{left} means that all findings are absent.")
        classes = tuple(dict.fromkeys(findings.values()))
        meanings = {cells: _state_findings(own, findings, classes) for cells, own in keys.items()}
        return Labels(classes, True, meanings, notes)
    if len(groups) < 2:
        raise InputError(
            f"All rows have the label {join_names(list(groups))}. Expected two or more classes. "
            "Give another column as label."
        )
    classes = order_classes(list(groups), settings.negative, are_given=settings.classes is not None)
    meanings = {cells: _choose_class(own, class_of) for cells, own in keys.items()}
    return Labels(classes, False, meanings, notes)


def split_label(cell: str) -> list[str]:
    """Returns the labels in a cell: "A|B", or a list of quoted texts such as "['A', 'B']"."""
    if cell.startswith("[") and cell.endswith("]"):
        found = re.findall(r"'([^']*)'|\"([^\"]*)\"", cell)
        return [text for pair in found if (text := "".join(pair).strip())]
    return [text for part in cell.split("|") if (text := part.strip())]


def _find_negatives(names: Sequence[str], settings: ReaderSettings) -> set[str]:
    if settings.negative is not None:
        return {fold_name(settings.negative)}.intersection(map(fold_name, names))
    return {fold_name(name) for name in names if sounds_negative(name, names)}


def _choose_spellings(
    parts: Mapping[Cells, Sequence[str]], counts: Counter[Cells]
) -> tuple[dict[str, str], list[str]]:
    """Returns folded label to its most frequent spelling, and a note on other spellings."""
    frequency: dict[str, Counter[str]] = defaultdict(Counter)
    for cells, own in parts.items():
        for part in own if counts[cells] else ():
            frequency[fold_name(part)][part] += counts[cells]
    # The most frequent spelling comes first.
    by_frequency = {
        key: [text for text, _ in sorted(own.items(), key=lambda item: (-item[1], item[0]))]
        for key, own in frequency.items()
    }
    several = [
        join_names(list(map(repr, own)), " = ") for own in by_frequency.values() if len(own) > 1
    ]
    note = f"Labels that differ only in case or spaces are one class: {join_names(several)}."
    chosen = {key: " ".join(own[0].split()) for key, own in by_frequency.items()}
    return chosen, [note] if several else []


def _check_names(names: Sequence[str], settings: ReaderSettings) -> None:
    """Raises InputError if the values of a column cannot be classes or findings."""
    if not names:
        raise InputError("No image has a label. Give another column as label.")
    if len(names) > _MAX_CLASSES:
        raise InputError(
            f"The label column has {len(names):,} different values, such as {join_names(names[:3])}"
            f". Expected classes, at most {_MAX_CLASSES:,}. Give another column as label."
        )
    if settings.classes is None and "-1" in names and {*names} <= {"-1", "0", "1"}:
        raise InputError(
            f"The label column has the values {join_names(names)}. To read 1, 0 and -1 as present, "
            "absent and uncertain, give a list of columns: "
            f"{propose_config(label=[settings.label or 'LABEL_COLUMN'])}"
        )


def _group_classes(
    classes: Sequence[str] | Mapping[str, Sequence[str]] | None, names: Sequence[str]
) -> dict[str, list[str]]:
    """Returns class to labels of the table. Without `classes`, each label is a class."""
    if not isinstance(classes, Mapping):
        classes = {name: [name] for name in (names if classes is None else classes)}
    known = set(map(fold_name, names))
    groups = {}
    for name, group in classes.items():
        groups[name] = [text for text in group if fold_name(text) in known]
        if not groups[name]:
            problem = did_you_mean(group[0], names[:10])
            raise InputError(f"classes: no image has a label of the class {name!r}. {problem}")
    return groups


def _has_several(
    keys: Mapping[Cells, Collection[str]],
    repeated: Iterable[set[Cells]],
    negatives: set[str],
    settings: ReaderSettings,
) -> bool:
    """Returns whether a row, or the rows of an image together, have several findings."""
    together = repeated if settings.repeated_rows == "any" else ()
    return any(len(own) > 1 for own in keys.values()) or any(
        len({key for cells in own for key in keys[cells]} - negatives) > 1 for own in together
    )


def _state_findings(
    keys: Collection[str], findings: Mapping[str, str], names: Sequence[str]
) -> Meaning:
    if not keys:
        return Meaning(reason=NO_LABEL)
    found = {findings.get(key) for key in keys}
    return Meaning(states=tuple(State.PRESENT if name in found else State.ABSENT for name in names))


def _choose_class(keys: Collection[str], class_of: Mapping[str, str]) -> Meaning:
    found = {class_of[key] for key in keys if key in class_of}
    if len(found) == 1:
        return Meaning(label=found.pop())
    return Meaning(reason=(SEVERAL if found else NOT_SELECTED) if keys else NO_LABEL)
