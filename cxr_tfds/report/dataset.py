"""Describes the dataset of a run: counts, origin and known problems."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cxr_tfds.building.report_file import JSON_FILE, read_report
from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.sequential import read_columns
from cxr_tfds.reading.tfds_files import INFO, read_info
from cxr_tfds.sources.image import State
from cxr_tfds.task import Task

_FILES = ((INFO, read_info), (JSON_FILE, read_report))
_BULLET = re.compile(
    r"^- \*\*(?P<name>[^*]+)\*\*: (?P<text>.*?)(?=^- \*\*|^#|\n\n|\Z)", re.MULTILINE | re.DOTALL
)


class SplitSummary(NamedTuple):
    """Numbers of images in a split."""

    images: int
    patients: int | None  # None: unknown for all images
    without_patient: int
    classes: dict[str, int]  # or, if an image may have several findings, where each is present
    findings: dict[str, int]  # of images of a positive class
    uncertain: int = 0  # findings of all images
    unknown: int = 0


class DatasetSummary(NamedTuple):
    """Contents and origin of a dataset; texts are "" if unknown."""

    splits: dict[str, SplitSummary]
    origin: dict[str, Any]  # see `cxr_tfds.sources.origin.describe_origin`
    source: str
    label_source: str
    warnings: list[str]  # shortcuts, and patients or images in two splits
    searched_for_shortcuts: bool


def summarize_dataset(dataset: BuiltDataset) -> DatasetSummary:
    """Returns counts of every split, and the texts of the dataset and its build report."""
    splits = {name: _count(dataset, name) for name, size in dataset.sizes.items() if size}
    warnings: list[str] = []
    folder = Path(next(iter(dataset.shards.values()))[0]).parent
    # Markdown, to be shown as plain text.
    info, build = (_read_or_warn(name, read, folder, warnings) for name, read in _FILES)
    description = info.get("description", "").replace("`", "")
    texts = {
        match["name"].lower(): " ".join(match["text"].split())
        for match in _BULLET.finditer(description)
    }
    if dataset.origin["drawn"]:  # the texts are about the published dataset
        texts = {}
    warnings += _build_warnings(build)
    if shortcuts := texts.get("known shortcuts"):
        warnings.append(shortcuts)
    return DatasetSummary(
        splits,
        {**dataset.origin},
        texts.get("source", ""),
        texts.get("label source", ""),
        warnings,
        build.get("shortcuts") is not None,
    )


def _read_or_warn(
    name: str, read: Callable[[Path], Any], folder: Path, warnings: list[str]
) -> dict[str, Any]:
    """Returns a description of the dataset, or {}: a report does not fail without it."""
    try:
        return read(folder)
    except FileNotFoundError:
        return {}
    except (OSError, InputError):
        warnings.append(f"{name} of the dataset is corrupt")
        return {}


def _count(dataset: BuiltDataset, split: str) -> SplitSummary:
    columns = read_columns(dataset, split, "label", "patient_id", "finding")
    labels, patients = columns["label"], columns["patient_id"]
    counted = SplitSummary(
        images=len(labels),
        patients=len(set(patients) - {""}) or None,
        without_patient=int((patients == "").sum()),
        classes={},
        findings={},
    )
    if dataset.task is Task.FINDINGS:
        present = (labels == State.PRESENT).sum(axis=0).tolist()
        return counted._replace(
            classes=dict(zip(dataset.labels, present, strict=True)),
            uncertain=int((labels == State.UNCERTAIN).sum()),
            unknown=int((labels == State.UNKNOWN).sum()),
        )
    positives = columns["finding"][labels > 0]
    counts = {name: int((positives == k).sum()) for k, name in enumerate(dataset.findings)}
    return counted._replace(
        classes={name: int((labels == k).sum()) for k, name in enumerate(dataset.labels)},
        findings={name: count for name, count in sorted(counts.items()) if count},
    )


def _build_warnings(build: dict[str, Any]) -> list[str]:
    """Returns the problems in a build report, see `cxr_tfds.building.build_report`."""
    warnings = [shortcut["text"] for shortcut in build.get("shortcuts") or []]
    if patients := build.get("patients", {}).get("in_two_splits"):
        warnings.append(f"patients in two splits: {len(patients)}")
    if duplicates := build.get("duplicates", {}).get("across_splits"):
        warnings.append(f"groups of identical files in two splits: {len(duplicates)}")
    return warnings
