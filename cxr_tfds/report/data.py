"""What the dataset of a run holds, and what its builder warns of."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr_tfds.building.build_report import JSON_FILE
from cxr_tfds.evaluation.scoring import Scores
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.in_order import numpy_batches

_INFO = "dataset_info.json"  # written by TFDS
_BULLET = re.compile(
    r"^- \*\*(?P<name>[^*]+)\*\*: (?P<text>.*?)(?=^- \*\*|^#|\n\n|\Z)", re.MULTILINE | re.DOTALL
)


class SplitFacts(NamedTuple):
    """Counts of a split."""

    images: int
    patients: int | None  # None: no patient is known
    without_patient: int
    classes: dict[str, int]
    findings: dict[str, int]  # of the images that show any; none where the dataset has no findings


class DataFacts(NamedTuple):
    """What a dataset says of itself."""

    splits: dict[str, SplitFacts]
    about: str  # one paragraph, "" where it says nothing
    source: str
    label_source: str
    warnings: list[
        str
    ]  # what tells the class without being in the lung, and what stands in two splits
    searched: bool  # whether the build has looked for such things


def facts_of(dataset: BuiltDataset, split: str, scores: Scores) -> DataFacts:
    """Counts of every split, and the description; `scores` are of `split`, which is not read again."""
    splits = {}
    for name in dataset.sizes:
        if not dataset.sizes[name]:
            continue
        if name == split:
            columns = (scores.labels, scores.patient_ids, scores.findings or [])
        else:
            columns = _columns(dataset, name)
        splits[name] = _counts(dataset, *columns)
    folder = _folder(dataset)
    described = _description(folder)
    parts = {
        match["name"].lower(): " ".join(match["text"].split())
        for match in _BULLET.finditer(described)
    }
    about = (
        ""
        if described.lstrip().startswith(("-", "#"))
        else " ".join(described.split("\n\n")[0].split())
    )
    report = _read(folder / JSON_FILE) if folder else None
    warnings, searched = _reported(report if isinstance(report, dict) else {})
    if general := parts.get("known shortcuts"):
        warnings.append(general)
    return DataFacts(
        splits, about, parts.get("source", ""), parts.get("label source", ""), warnings, searched
    )


def _columns(dataset: BuiltDataset, split: str) -> tuple[np.ndarray, list[str], list[str]]:
    fields = ("label", "patient_id", *(["finding"] if dataset.findings else []))
    batches = list(numpy_batches(dataset, split, fields=fields, batch_size=1024))
    numbers = [number for batch in batches for number in batch.get("finding", ())]
    return (
        np.concatenate([batch["label"] for batch in batches]),
        [text.decode() for batch in batches for text in batch["patient_id"]],
        [dataset.findings[number] if number >= 0 else "" for number in numbers],
    )


def _counts(
    dataset: BuiltDataset, labels: np.ndarray, patients: list[str], findings: list[str]
) -> SplitFacts:
    known = {patient for patient in patients if patient}
    shown = (
        Counter(
            finding for finding, label in zip(findings, labels, strict=True) if label and finding
        )
        if findings
        else {}
    )
    return SplitFacts(
        images=len(labels),
        patients=len(known) or None,
        without_patient=sum(not patient for patient in patients),
        classes={name: int((labels == number).sum()) for number, name in enumerate(dataset.labels)},
        findings=dict(sorted(shown.items())),
    )


def _folder(dataset: BuiltDataset) -> Path | None:
    for shards in dataset.shards.values():
        if shards:
            return Path(shards[0]).parent
    return None


def _description(folder: Path | None) -> str:
    content = _read(folder / _INFO) if folder else None
    # Written in Markdown, shown as plain text.
    return str(content.get("description", "")).replace("`", "") if isinstance(content, dict) else ""


def _reported(report: dict[str, Any]) -> tuple[list[str], bool]:
    """What the report of the build warns of, and whether it looked; see `cxr_tfds.building.build_report`."""
    shortcuts = report.get("shortcuts")
    found = shortcuts if isinstance(shortcuts, list) else []
    warnings = [str(each["text"]) for each in found if isinstance(each, dict) and each.get("text")]
    for what, key, title in (
        ("patients", "in_two_splits", "patients in two splits"),
        ("duplicates", "across_splits", "groups of identical files in two splits"),
    ):
        part = report.get(what)
        if isinstance(part, dict) and part.get(key):
            warnings.append(f"{title}: {len(part[key])}")
    return warnings, isinstance(shortcuts, list)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a card is written without it
        return None
