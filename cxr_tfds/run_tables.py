"""The tables of `metrics.json` and `stress.json`, which have one for each split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from cxr_tfds.schema import Count, Finite, Probability, Text

# The Brier score of several classes is at most 2, every other metric at most 1.
_Value = Annotated[float, Meta(ge=0, le=2)]
_Change = Annotated[float, Meta(ge=-1, le=1)]  # of a metric


class _Metric(TypedDict):
    value: _Value | None
    low: _Value | None
    high: _Value | None


class Metric(_Metric, total=False):
    """A metric with its 95% interval; None where it is undefined."""

    undefined: str  # why the value is None


# Written as a call because `class` is a keyword.
_Rule = TypedDict("_Rule", {"class": str, "threshold": Probability})


class ConfusionCounts(TypedDict):
    """Images of two classes by their label and their prediction."""

    tn: Count
    fp: Count
    fn: Count
    tp: Count


class ClassTable(TypedDict, total=False):
    """The metrics of a class, or their averages over the classes, which have no `support`."""

    precision: Metric
    recall: Metric
    f1: Metric
    auc: Metric
    support: Count


class _Images(TypedDict):
    images: Count


class MetricsTable(_Images, total=False):
    """The metrics of a split, or of a finding: `evaluate_split` and `evaluate_findings`."""

    task: Annotated[str, Meta(pattern="^findings$")]
    rule: _Rule
    auc: Metric
    average_precision: Metric
    accuracy: Metric
    balanced_accuracy: Metric
    sensitivity: Metric
    specificity: Metric
    ppv: Metric
    npv: Metric
    f1: Metric
    brier: Metric
    ece: Metric
    classes: dict[str, ClassTable]
    averages: dict[str, ClassTable]
    findings: dict[str, MetricsTable]
    confusion_matrix: ConfusionCounts | list[list[Count]]
    threshold: Probability | None
    positives: Count


class _Rates(TypedDict):
    auc: Probability | None
    accuracy: Probability | None
    sensitivity: Probability | None
    specificity: Probability | None


class Rates(_Rates, total=False):
    """Metrics of the stress test without intervals."""

    findings: dict[str, _Rates]


class _Drop(TypedDict):
    value: _Change
    low: _Change | None
    high: _Change | None


class _StressRow(_Rates):
    condition: Text
    strength: Text
    amount: Finite
    written: str


class StressRow(_StressRow, total=False):
    """The metrics under one condition."""

    findings: dict[str, _Rates]
    drop: _Drop


class _MeanAuc(TypedDict):
    auc: Probability
    difference: _Change


class _StressTable(TypedDict):
    images: Count
    clean: Rates
    rows: list[StressRow]
    verdict: str


class StressTable(_StressTable, total=False):
    """The result of `cxr_tfds.evaluation.stress.run_stress_test`."""

    split_images: Count
    moderate: _MeanAuc


_ALWAYS = ("auc", "accuracy", "balanced_accuracy", "brier", "ece")
_OF_TWO_CLASSES = ("average_precision", "sensitivity", "specificity", "ppv", "npv", "f1")
_DECISIONS = ("confusion_matrix", "threshold")


def find_contradiction(table: Mapping[str, Any], *, is_finding: bool = False) -> str:
    """Returns what a `MetricsTable` lacks, or "". The keys depend on the number of classes.

    `is_finding`: whether the table is about one of several findings of an image.
    """
    several = table.get("task") == "findings"
    has_two = several or is_finding or isinstance(table.get("confusion_matrix"), dict)
    needed = [*_ALWAYS, *(_OF_TWO_CLASSES if has_two else ())]
    needed += ["findings"] if several else [*_DECISIONS, *(["positives"] if is_finding else [])]
    if missing := [name for name in needed if name not in table]:
        return f"{missing[0]} is missing"
    for name, finding in table.get("findings", {}).items():
        problem = find_contradiction(finding, is_finding=True) if several else ""
        if problem or "sensitivity" not in finding:
            return f"{problem or 'the sensitivity is missing'} of {name}"
    return find_half_interval(table)


def find_half_interval(table: Any) -> str:
    """Returns where a value has one limit only, or no reason why it is undefined, or ""."""
    if isinstance(table, list):
        return next(filter(None, map(find_half_interval, table)), "")
    if not isinstance(table, dict):
        return ""
    if {"value", "low", "high"} <= table.keys():
        value, low, high = table["value"], table["low"], table["high"]
        is_complete = (low is None) == (high is None)
        if is_complete and (value is not None or "undefined" in table):
            return ""
        return f"an incomplete interval ({value}, {low}, {high})"
    return next(filter(None, map(find_half_interval, table.values())), "")
