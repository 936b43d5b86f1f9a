"""Metrics as text for people. Loads no NumPy."""

from __future__ import annotations

from typing import Any

from cxr_tfds.text import fold_text, screen_width, text_table

_ORDER = (
    "accuracy", "auc", "balanced_accuracy", "average_precision", "sensitivity", "specificity",
    "ppv", "npv", "f1", "brier", "ece",
)  # fmt: skip

# Of two classes, what these metrics are about; all others are about both.
_OF_POSITIVE = ("average_precision", "sensitivity", "ppv", "f1")
_OF_NEGATIVE = ("specificity", "npv")

_FINDING_COLUMNS = ("auc", "sensitivity", "specificity")


def format_metrics(table: dict[str, Any]) -> str:
    """Returns the metrics of a split as text.

    One metric to a line for a table of `cxr_tfds.metrics.summary.evaluate_split`, and one finding
    to a line for a table of `cxr_tfds.metrics.findings.evaluate_findings`.
    """
    if table.get("task") == "findings":
        return _format_findings(table)
    rows = [
        (name + of_class(name, table), format_metric(table[name]))
        for name in _ORDER
        if name in table
    ]
    rows += class_and_finding_rows(table)
    if table["threshold"] is not None:
        positive = table.get("rule", {}).get("class")
        name = f"threshold ({positive})" if positive else "threshold"
        rows.append((name, f"{table['threshold']:.4f}"))
    rows.append(("images", str(table["images"])))
    width = max(18, *(len(name) for name, _ in rows))
    lines = "\n".join(f"  {name:<{width}} {text}" for name, text in rows)
    return fold_text(lines, screen_width(), width + 3)


def of_class(name: str, table: dict[str, Any]) -> str:
    """Returns " (PNEUMONIA)" if a metric of two classes is about this one, otherwise ""."""
    if "rule" not in table:
        return ""
    positive = table["rule"]["class"]
    negative = next(x for x in table["classes"] if x != positive)
    if name in _OF_POSITIVE:
        return f" ({positive})"
    return f" ({negative})" if name in _OF_NEGATIVE else ""


def _format_findings(table: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [
        ("finding", "AUC", "sensitivity", "specificity", "threshold", "positive", "images")
    ]
    for name, metrics in table["findings"].items():
        texts = (format_metric(metrics[key], 3) for key in _FINDING_COLUMNS)
        counts = f"{metrics['positives']:,}", f"{metrics['images']:,}"
        rows.append((name, *texts, f"{metrics['threshold']:.3f}", *counts))
    means = (format_metric(table[key], 3) for key in _FINDING_COLUMNS)
    rows.append(("mean", *means, "", "", f"{table['images']:,}"))
    return text_table(rows, indent="  ")


def class_and_finding_rows(table: dict[str, Any], digits: int = 4) -> list[tuple[str, str]]:
    """Returns name and text: sensitivity to each finding and, for K > 2, recall of each class."""
    rows = [
        (f"sensitivity to {name}", metrics["sensitivity"], metrics["images"])
        for name, metrics in table.get("findings", {}).items()
    ]
    if table["threshold"] is None:
        rows += [
            (f"recall of {name}", metrics["recall"], metrics["support"])
            for name, metrics in table.get("classes", {}).items()
        ]
    return [
        (name, f"{format_metric(metric, digits)}, {images} images") for name, metric, images in rows
    ]


def format_metric(metric: dict[str, Any], digits: int = 4) -> str:
    """Returns `0.9123 (95% CI 0.9012 to 0.9234)`, or why the metric is undefined."""
    if metric["value"] is None:
        return f"undefined: {metric['undefined']}"
    value = f"{metric['value']:.{digits}f}"
    if metric["low"] is None:
        return f"{value} ({metric['undefined']})"
    return f"{value} (95% CI {metric['low']:.{digits}f} to {metric['high']:.{digits}f})"
