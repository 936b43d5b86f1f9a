"""Describes the dataset of a run: counts, origin and known problems."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr_tfds.evaluation.scoring import Scores
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.sequential import read_columns

_INFO = "dataset_info.json"  # written by TFDS
_BUILD_REPORT = "build_report.json"  # written by the builder
_BULLET = re.compile(
    r"^- \*\*(?P<name>[^*]+)\*\*: (?P<text>.*?)(?=^- \*\*|^#|\n\n|\Z)", re.MULTILINE | re.DOTALL
)


class SplitSummary(NamedTuple):
    """Numbers of images in a split."""

    images: int
    patients: int | None  # None: unknown for all images
    without_patient: int
    classes: dict[str, int]
    findings: dict[str, int]  # of images of a positive class


class DatasetSummary(NamedTuple):
    """Contents and origin of a dataset; texts are "" if unknown."""

    splits: dict[str, SplitSummary]
    description: str
    source: str
    label_source: str
    warnings: list[str]  # shortcuts, and patients or images in two splits
    searched_for_shortcuts: bool


def summarize_dataset(dataset: BuiltDataset, split: str, scores: Scores) -> DatasetSummary:
    """Returns counts of every split, and what the dataset and its build report say.

    Args:
      dataset: The dataset.
      split: The split of `scores`, which need not be read again.
      scores: Scores of `split`.
    """
    splits = {}
    for name, size in dataset.sizes.items():
        if name == split:
            findings = scores.findings or [""] * size
            splits[name] = _count(dataset, scores.labels, scores.patient_ids, findings)
        elif size:
            columns = read_columns(dataset, name, "label", "patient_id", "finding")
            names = (*dataset.findings, "")  # -1 is unknown
            findings = [names[number] for number in columns["finding"]]
            splits[name] = _count(
                dataset, columns["label"], columns["patient_id"].tolist(), findings
            )
    folder = Path(next(shard for shards in dataset.shards.values() for shard in shards)).parent
    # Markdown, to be shown as plain text.
    description = str(_read(folder / _INFO).get("description", "")).replace("`", "")
    texts = {
        match["name"].lower(): " ".join(match["text"].split())
        for match in _BULLET.finditer(description)
    }
    has_prose = not description.lstrip().startswith(("-", "#"))
    build = _read(folder / _BUILD_REPORT)
    warnings = _build_warnings(build)
    if shortcuts := texts.get("known shortcuts"):
        warnings.append(shortcuts)
    return DatasetSummary(
        splits,
        " ".join(description.split("\n\n")[0].split()) if has_prose else "",
        texts.get("source", ""),
        texts.get("label source", ""),
        warnings,
        build.get("shortcuts") is not None,
    )


def _count(
    dataset: BuiltDataset, labels: np.ndarray, patients: Sequence[str], findings: Sequence[str]
) -> SplitSummary:
    positive = (name for name, label in zip(findings, labels, strict=True) if label and name)
    return SplitSummary(
        images=len(labels),
        patients=len({patient for patient in patients if patient}) or None,
        without_patient=sum(not patient for patient in patients),
        classes={name: int((labels == number).sum()) for number, name in enumerate(dataset.labels)},
        findings=dict(sorted(Counter(positive).items())),
    )


def _build_warnings(build: dict[str, Any]) -> list[str]:
    """Returns the problems in a build report, see `cxr_tfds.building.build_report`."""
    warnings = [shortcut["text"] for shortcut in build.get("shortcuts") or []]
    if patients := build.get("patients", {}).get("in_two_splits"):
        warnings.append(f"patients in two splits: {len(patients)}")
    if duplicates := build.get("duplicates", {}).get("across_splits"):
        warnings.append(f"groups of identical files in two splits: {len(duplicates)}")
    return warnings


def _read(path: Path) -> dict[str, Any]:
    """Returns a JSON object, empty if it cannot be read: a report does not fail without it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
