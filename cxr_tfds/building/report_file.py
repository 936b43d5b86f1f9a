"""Reads `build_report.json`, see `cxr_tfds.building.build_report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

from cxr_tfds.schema import AtLeastOne, Count, NotNegative, Probability, read_json

JSON_FILE = "build_report.json"


class _SplitCounts(TypedDict):
    images: Count
    classes: dict[str, Count]
    findings: dict[str, Count]
    patients: Count
    images_without_patient: Count


class _Duplicates(TypedDict):
    groups: Count
    images: Count
    within_split: Count
    across_splits: list[list[str]]
    across_classes: list[list[str]]


class _Patients(TypedDict):
    in_two_splits: dict[str, list[str]]
    in_two_splits_of_the_source: dict[str, list[str]]


_Shortcut = TypedDict("_Shortcut", {"property": str, "class": str, "auc": Probability, "text": str})


class _Report(TypedDict):
    dataset: str
    settings: dict[str, Any]  # of the config, which a builder may extend
    splits: dict[str, _SplitCounts]
    duplicates: _Duplicates
    patients: _Patients
    shortcuts: list[_Shortcut] | None
    bad_images: dict[str, str]
    max_examples_per_split: AtLeastOne | None
    notes: list[str]


class BuildReport(_Report, total=False):
    """The content of `build_report.json`; reports from before 2026-11 have less."""

    near_duplicates: list[list[str]]
    pixels: dict[str, dict[str, dict[str, NotNegative]]]


def read_report(folder: Path) -> dict[str, Any]:
    """Reads the report of a dataset.

    Raises:
      InputError: It is corrupt.
      OSError: It is missing or cannot be read.
    """
    advice = "Build the dataset again with --overwrite."
    report = read_json(folder / JSON_FILE, BuildReport, advice)
    return {"near_duplicates": [], "pixels": {}, **report}
