"""The table of the COVID-19 image data collection (`metadata.csv`), and which of its images are asked for.

Source: Cohen, Morrison, Dao, Roth, Duong, Ghassemi (2020), https://github.com/ieee8023/covid-chestxray-dataset,
columns as in its SCHEMA.md. They were renamed over time, so they are found by name and never by position.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from cxr_tfds.errors import InputError

TABLE = "metadata.csv"
UNLABELLED = "todo"  # what stands in `finding` until somebody has read the source
ANY_VIEW = "any"
_REQUIRED = ("patientid", "finding", "view", "filename")
_OPTIONAL = ("modality", "folder")  # not there before March 2020
_DEFAULT_FOLDER = "images"
_CT_VIEWS = ("ct", "axial", "coronal")  # how CT is told where there is no column for the modality
_PREFIX = "ieee8023-"

# Findings by what newer tables call them, "Pneumonia/Viral/COVID-19", and older ones, "COVID-19".
FINDINGS = (
    "none", "COVID-19", "COVID-19, ARDS", "SARS", "MERS", "Influenza", "Varicella", "Herpes", "ARDS",
    "Streptococcus", "Staphylococcus", "Klebsiella", "Legionella", "Mycoplasma", "Chlamydophila", "E.Coli",
    "Nocardia", "Pneumocystis", "Aspergillosis", "Tuberculosis", "Lipoid", "Aspiration",
)  # fmt: skip


class Row(NamedTuple):
    """An image as the table describes it; text stripped of blanks around it."""

    line: int
    patient_id: str  # "" where unknown
    finding: str
    view: str
    modality: str
    folder: str  # below the table's own folder
    filename: str

    @property
    def place(self) -> str:
        """Of the image, below the table's folder."""
        return f"{self.folder}/{self.filename}"


class Chosen(NamedTuple):
    """One image that was asked for and is there."""

    place: str
    patient_id: str  # the same for all whom the table gives an image in common
    finding: str | None  # one of FINDINGS; None where it is none of them


def read_table(data: bytes) -> list[Row]:
    """The rows of `metadata.csv`.

    Raises:
      InputError: it is no CSV in UTF-8, lacks a column or has it twice, or a file name leads out of its folder.
    """
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = next(reader, [])
        columns = _columns(header)
        rows = [
            _row(reader.line_num, values, columns)
            for values in reader
            if any(map(str.strip, values))
        ]
    except UnicodeDecodeError as err:
        raise InputError(
            f"{TABLE} is not UTF-8 (byte {err.start:,}). Save it as UTF-8, or download it again."
        ) from err
    except csv.Error as err:
        raise InputError(f"{TABLE}, line {reader.line_num}: {err}. Download it again.") from err
    if not rows:
        raise InputError(f"{TABLE} holds no rows. Download it again.")
    return rows


def _columns(header: Sequence[str]) -> dict[str, int]:
    """Position of each column that is read; "Patientid", "patient_id" and " patientid" are one."""
    found: dict[str, int] = {}
    for number, name in enumerate(header):
        key = re.sub(r"[\W_]", "", name).casefold()
        if key in found and key in _REQUIRED + _OPTIONAL:
            raise InputError(f"{TABLE} has the column {key!r} twice. Keep one of them.")
        found[key] = number
    if missing := [name for name in _REQUIRED if name not in found]:
        raise InputError(
            f"{TABLE} has no column {', '.join(missing)}; it has {', '.join(filter(None, header)) or 'none'}. "
            "Expected the table of ieee8023/covid-chestxray-dataset."
        )
    return found


def _row(line: int, values: Sequence[str], columns: Mapping[str, int]) -> Row:
    def value(column: str) -> str:
        at = columns.get(column, len(values))
        return values[at].strip() if at < len(values) else ""

    view = value("view")
    modality = value("modality") or ("CT" if view.casefold() in _CT_VIEWS else "X-ray")
    folder, filename = value("folder") or _DEFAULT_FOLDER, value("filename")
    parts = PurePosixPath(folder).parts
    if (
        re.search(r"[/\\\0]", filename)
        or filename in (".", "..")
        or "\\" in folder
        or {"..", "/"} & set(parts)
    ):
        raise InputError(
            f"{TABLE}, line {line}: {folder}/{filename} leads out of its folder; expected a plain file name. "
            "Such a table is not to be trusted; get it from its source."
        )
    patient = f"{_PREFIX}{value('patientid')}" if value("patientid") else ""
    return Row(line, patient, value("finding"), view, modality, "/".join(parts), filename)


def terms(finding: str) -> set[str]:
    """The parts of a finding, casefolded: both of "COVID-19, ARDS", all of "Pneumonia/Viral/COVID-19"."""
    return {part.strip().casefold() for part in re.split(r"[,;/]", finding)} - {""}


def named_finding(finding: str) -> str | None:
    """The name among FINDINGS, None where there is none."""
    found = terms(finding)
    if found == {"no finding"}:
        return "none"
    if {"covid-19", "ards"} <= found:
        return "COVID-19, ARDS"
    found = {
        "mers" if term == "mers-cov" else term.removesuffix(" bacterial pneumonia")
        for term in found
    }
    return next((name for name in FINDINGS[1:] if name.casefold() in found), None)


def choose(
    rows: Sequence[Row], there: Iterable[str], *, view: str, modality: str, finding: str
) -> tuple[list[Chosen], list[str]]:
    """The images that are asked for and there, and what a reader of the table should know.

    Args:
      rows: the whole table.
      there: places of the images, as in `Row.place`.
      view: one view, several with commas between them, or "any".
      modality: such as "X-ray".
      finding: such as "COVID-19", a part of what the table says.

    Raises:
      InputError: none is left; the message tells what values there are.
    """
    rows = [row for row in rows if row.filename]
    files = set(there)
    views = {name.strip().casefold() for name in view.split(",")}
    asked = [
        row
        for row in rows
        if (ANY_VIEW in views or row.view.casefold() in views)
        and row.modality.casefold() == modality.casefold()
        and finding.casefold() in terms(row.finding)
    ]
    wanted = {row.place for row in asked}
    disputed = {row.place for row in set(rows).difference(asked)} & wanted
    patients = _patients(rows)
    chosen: dict[str, Chosen] = {}
    for row in asked:
        if row.place in files - disputed:
            chosen.setdefault(
                row.place,
                Chosen(row.place, patients.get(row.place, ""), named_finding(row.finding)),
            )
    if not chosen:
        raise InputError(_nothing(rows, files, view, modality, finding, len(asked)))
    what = f"view {view}, modality {modality} and finding {finding}"
    repeated = sum(count > 1 for count in Counter(row.place for row in rows).values())
    notes = [
        f"{TABLE} has {len(rows)} rows, {len(asked)} of {what}; without an image here, of these: "
        f"{sum(row.place not in files for row in asked)}, of all: {sum(row.place not in files for row in rows)}.",
        f"Images without a row: {len(files - {row.place for row in rows})}.",
        f"Rows not labelled yet ({UNLABELLED!r}): {sum(terms(row.finding) == {UNLABELLED} for row in rows)}.",
        f"File names in several rows, whose patients are taken for one: {repeated}.",
    ]
    if lost := disputed & files:
        notes.append(
            f"Images left out because some of their rows are asked for and some are not: {len(lost)}."
        )
    return [chosen[place] for place in sorted(chosen)], notes


def _patients(rows: Iterable[Row]) -> dict[str, str]:
    """The patient of each place: of those whom images in common join, one person under several numbers, the first.

    A place of which no row tells a patient is left out.
    """
    leader: dict[str, str] = {}

    def first(patient: str) -> str:
        while leader[patient] != patient:
            patient = leader[patient]
        return patient

    by_place: dict[str, str] = {}
    for row in rows:
        if row.patient_id:
            leader.setdefault(row.patient_id, row.patient_id)
            leader[first(row.patient_id)] = first(by_place.setdefault(row.place, row.patient_id))
    return {place: first(patient) for place, patient in by_place.items()}


def _nothing(
    rows: Sequence[Row], files: set[str], view: str, modality: str, finding: str, asked: int
) -> str:
    found = f"{asked} rows are so, and none of their images is here" if asked else "no row is so"
    here = [row for row in rows if row.place in files]

    def values(column: str) -> str:
        counts = Counter(getattr(row, column) or "(empty)" for row in here)
        return ", ".join(f"{value} ({count})" for value, count in counts.most_common(12)) or "none"

    return (
        f"view={view!r}, modality={modality!r}, finding={finding!r}: {found}. Of the {len(here)} rows whose image "
        f"is here\n  the views are {values('view')}\n  the modalities {values('modality')}\n"
        f"  the findings {values('finding')}"
    )
