"""Reads the table of the COVID-19 image data collection (`metadata.csv`) and selects its images.

Source: Cohen, Morrison, Dao, Roth, Duong, Ghassemi (2020),
https://github.com/ieee8023/covid-chestxray-dataset, with the columns of its SCHEMA.md. The columns
were renamed over time, so they are found by name, never by position.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from cxr_tfds.errors import InputError
from cxr_tfds.sources.archives import SourcePath
from cxr_tfds.sources.image import SourceImage
from cxr_tfds.sources.tables.opening import open_table

TABLE = "metadata.csv"
UNLABELLED = "todo"  # value of `finding` until somebody has read the publication
ANY_VIEW = "any"
_REQUIRED = ("patientid", "finding", "view", "filename")
_OPTIONAL = ("modality", "folder")  # absent before March 2020
_DEFAULT_FOLDER = "images"
_CT_VIEWS = ("ct", "axial", "coronal")  # in tables without a column for the modality

# Newer tables write "Pneumonia/Viral/COVID-19", older ones "COVID-19".
FINDINGS = (
    "none", "COVID-19", "COVID-19, ARDS", "SARS", "MERS", "Influenza", "Varicella", "Herpes",
    "ARDS", "Streptococcus", "Staphylococcus", "Klebsiella", "Legionella", "Mycoplasma",
    "Chlamydophila", "E.Coli", "Nocardia", "Pneumocystis", "Aspergillosis", "Tuberculosis",
    "Lipoid", "Aspiration",
)  # fmt: skip


class Row(NamedTuple):
    """A row of the table, with surrounding spaces removed from each value."""

    line: int
    patient_id: str  # "" if unknown
    finding: str
    view: str
    modality: str
    folder: str  # relative to the folder of the table
    filename: str

    @property
    def image_path(self) -> str:
        """Path of the image, relative to the folder of the table."""
        return f"{self.folder}/{self.filename}"


def read_table(path: SourcePath) -> list[Row]:
    """Returns the rows of `metadata.csv`.

    Raises:
      InputError: The file is not a table in UTF-8, has no rows, lacks a column or has it twice, or
        a file name points outside its folder.
    """
    table = open_table(path, TABLE)
    columns = _normalize_columns(table.columns)
    return [
        _parse_row(line, dict(zip(columns, cells, strict=True)))
        for line, cells in table.read_columns(range(len(columns)))
    ]


def _normalize_columns(header: Sequence[str]) -> list[str]:
    """Returns the column names; "Patientid", "patient_id" and " patientid" are the same name."""
    columns = [re.sub(r"[\W_]", "", name).casefold() for name in header]
    for name in _REQUIRED + _OPTIONAL:
        if columns.count(name) > 1:
            raise InputError(f"{TABLE} has the column {name!r} twice. Remove one.")
    if missing := [name for name in _REQUIRED if name not in columns]:
        raise InputError(
            f"{TABLE} has no column {', '.join(missing)}; it has "
            f"{', '.join(filter(None, header)) or 'none'}. Expected the table of "
            "ieee8023/covid-chestxray-dataset."
        )
    return columns


def _parse_row(line: int, values: Mapping[str, str]) -> Row:
    view, filename = values["view"], values["filename"]
    modality = values.get("modality") or ("CT" if view.casefold() in _CT_VIEWS else "X-ray")
    folder = values.get("folder") or _DEFAULT_FOLDER
    parts = PurePosixPath(folder).parts
    if re.search(r"[/\\\0]|^\.\.?$", filename) or "\\" in folder or {"..", "/"}.intersection(parts):
        raise InputError(
            f"{TABLE}, line {line}: {folder}/{filename} points outside its folder; expected a "
            "plain file name. Do not trust this table. Download it again."
        )
    patient_id = f"ieee8023-{values['patientid']}" if values["patientid"] else ""
    return Row(line, patient_id, values["finding"], view, modality, "/".join(parts), filename)


def split_terms(finding: str) -> set[str]:
    """Returns the case-folded parts of a finding such as "COVID-19, ARDS" or "Pneumonia/Viral"."""
    return {part.strip().casefold() for part in re.split(r"[,;/]", finding)} - {""}


def normalize_finding(finding: str) -> str | None:
    """Returns the name in FINDINGS for a finding of the table, or None if there is none."""
    terms = split_terms(finding)
    if terms == {"no finding"}:
        return "none"
    if {"covid-19", "ards"} <= terms:
        return "COVID-19, ARDS"
    terms = {
        "mers" if term == "mers-cov" else term.removesuffix(" bacterial pneumonia")
        for term in terms
    }
    return next((name for name in FINDINGS[1:] if name.casefold() in terms), None)


def choose_images(
    rows: Sequence[Row],
    paths: Mapping[str, SourcePath],  # existing image files by `Row.image_path`
    *,
    view: str,  # one view, several separated by commas, or "any"
    modality: str,
    finding: str,  # one term of a finding
    label: str,
) -> tuple[list[SourceImage], list[str]]:
    """Returns the images that match the criteria, sorted by path, and notes for the build report.

    Raises:
      InputError: No image matches.
    """
    rows = [row for row in rows if row.filename]
    views = {name.strip().casefold() for name in view.split(",")}
    matching = [
        row
        for row in rows
        if (ANY_VIEW in views or row.view.casefold() in views)
        and row.modality.casefold() == modality.casefold()
        and finding.casefold() in split_terms(row.finding)
    ]
    others = {row.image_path for row in set(rows).difference(matching)}
    disputed = {row.image_path for row in matching} & others
    patients = _merge_patients(rows)
    chosen: dict[str, SourceImage] = {}
    for row in matching:
        key = row.image_path
        if key in paths and key not in disputed:
            image = SourceImage(paths[key], "train", label, f"{label}/{key}")
            finding_name, patient = normalize_finding(row.finding), patients.get(key, "")
            chosen.setdefault(key, image._replace(finding=finding_name, patient_id=patient))
    if not chosen:
        criteria = f"view={view!r}, modality={modality!r}, finding={finding!r}"
        raise InputError(f"{criteria}: {_explain_no_match(rows, paths, len(matching))}")

    def count_missing(rows: Iterable[Row]) -> int:
        return sum(row.image_path not in paths for row in rows)

    repeated = sum(count > 1 for count in Counter(row.image_path for row in rows).values())
    notes = [
        f"{TABLE} has {len(rows)} rows, {count_missing(rows)} without an image file. Of these rows "
        f"{len(matching)} match view {view}, modality {modality} and finding {finding}, "
        f"{count_missing(matching)} without an image file.",
        f"Images without a row: {len(set(paths) - {row.image_path for row in rows})}.",
        f"Rows without a label ({UNLABELLED!r}): "
        f"{sum(split_terms(row.finding) == {UNLABELLED} for row in rows)}.",
        f"File names in several rows, whose patients count as one: {repeated}.",
    ]
    if conflicting := disputed & set(paths):
        notes.append(f"Images left out because only some of their rows match: {len(conflicting)}.")
    return [chosen[key] for key in sorted(chosen)], notes


def _merge_patients(rows: Iterable[Row]) -> dict[str, str]:
    """Returns image path to patient.

    Patients who share an image are one person with several numbers, and get the first number.
    """
    leaders: dict[str, str] = {}

    def find_leader(patient: str) -> str:
        while leaders[patient] != patient:
            patient = leaders[patient]
        return patient

    by_path: dict[str, str] = {}
    for row in rows:
        if row.patient_id:
            leaders.setdefault(row.patient_id, row.patient_id)
            first = by_path.setdefault(row.image_path, row.patient_id)
            leaders[find_leader(row.patient_id)] = find_leader(first)
    return {path: find_leader(patient) for path, patient in by_path.items()}


def _explain_no_match(rows: Sequence[Row], paths: Mapping[str, SourcePath], matches: int) -> str:
    """Returns what is wrong and the values of the rows whose image exists, most frequent first."""
    problem = "no row matches"
    if matches:
        problem = f"{matches} rows match, but none of their image files exist"
    existing = [row for row in rows if row.image_path in paths]
    lines = [f"{problem}. Values of the {len(existing)} rows with an image file:"]
    for column in ("view", "modality", "finding"):
        counts = Counter(getattr(row, column) or "(empty)" for row in existing)
        values = ", ".join(f"{value} ({count})" for value, count in counts.most_common(12))
        lines.append(f"  {column}: {values or 'none'}")
    return "\n".join(lines)
