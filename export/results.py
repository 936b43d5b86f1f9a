"""The results of an export: records, `export.json` and text for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from cxr_tfds.schema import Count, NotNegative, Probability, Temperature, Text, read_json
from cxr_tfds.text import text_table

from .check import Comparison, describe_agreement
from .edge.model_info import ModelInfo

RESULTS = "export.json"


class RuntimeResult(NamedTuple):
    """How a file ran in one runtime, in a process of its own."""

    runtime: str
    version: str
    latency_ms: float  # median of 50 runs, one thread
    peak_mb: float | None  # None if the system does not report it
    images: int  # validation images that were run
    agreement: float  # share of the Keras model's decisions; of several findings, the lowest


class Exported(NamedTuple):
    """A published file and how it compares."""

    path: Path
    quantization: str  # name of the format
    size_bytes: int
    temperature: float | tuple[float, ...]  # of each of several findings
    threshold: float | tuple[float, ...] | None  # None for more than two classes
    comparisons: dict[str, Comparison]  # by split, in LiteRT
    ran: list[RuntimeResult]
    refused: dict[str, str]  # by runtime, the reason why it cannot run the file
    warnings: list[str]  # see `check.find_doubts`


def to_json(files: Sequence[Exported], kept: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the content of `export.json`, with the rows `kept` of earlier exports.

    They do not compete for the fastest: latencies of another day or machine do not compare.
    """
    rows = [
        {
            **file._asdict(),
            "path": file.path.name,
            "comparisons": {x: dataclasses.asdict(table) for x, table in file.comparisons.items()},
            "ran": [run._asdict() for run in file.ran],
        }
        for file in files
    ]
    return {"files": [*kept, *rows], "fastest": fastest(files), "smallest": smallest(files)}


class _Compared(TypedDict):
    images: Count
    agreement: Probability
    auc_keras: Probability | None
    auc: Probability | None
    accuracy_keras: Probability | None
    accuracy: Probability | None
    max_difference: NotNegative
    mean_difference: NotNegative


class _ComparedRow(_Compared, total=False):
    agreement_low: Probability | None  # since 2026-11, as the other two
    agreement_high: Probability | None
    findings: dict[str, _ComparedRow]


class _Ran(TypedDict):
    runtime: Text
    version: str
    latency_ms: NotNegative
    peak_mb: NotNegative | None
    images: Count
    agreement: Probability


class _FileRow(TypedDict):
    path: Text
    quantization: Text
    size_bytes: Count
    temperature: Temperature | list[Temperature]
    threshold: Probability | list[Probability] | None
    comparisons: dict[str, _ComparedRow]
    ran: list[_Ran]
    refused: dict[str, str]


class _Row(_FileRow, total=False):
    warnings: list[str]  # since 2026-11


class _Results(TypedDict):
    files: list[_Row]
    fastest: dict[str, str]
    smallest: str


def read_rows(out: Path) -> list[dict[str, Any]]:
    """Returns the rows of the files that `export.json` in `out` describes, if there is one.

    Raises:
      InputError: It is corrupt.
    """
    path = out / RESULTS
    if not path.exists():
        return []
    results: Any = read_json(path, _Results, "Remove it, or choose another --out.")
    return results["files"]


def fastest(files: Sequence[Exported]) -> dict[str, str]:
    """Returns the name of the file with the lowest latency, by runtime."""
    best: dict[str, tuple[float, str]] = {}
    for file in files:
        for run in file.ran:
            candidate = (run.latency_ms, file.path.name)
            best[run.runtime] = min(candidate, best.get(run.runtime, candidate))
    return {runtime: name for runtime, (_, name) in best.items()}


def smallest(files: Sequence[Exported]) -> str:
    """Returns the name of the smallest file."""
    return min(files, key=lambda file: file.size_bytes).path.name


def file_model_card(
    run_card: str | None,
    info: ModelInfo,
    comparisons: Mapping[str, Comparison],
    warnings: Sequence[str] = (),
) -> str | None:
    """Returns the run's model card with a section about the file; None if the run has none."""
    if run_card is None:
        return None
    lines = [
        f"Format {info.quantization}, {info.input} input, for {' and '.join(info.runtimes)}. The "
        "metrics above were measured with the Keras model.",
    ]
    if isinstance(info.threshold, tuple) and isinstance(info.temperature, tuple):
        for name, threshold, temperature in zip(
            info.labels, info.threshold, info.temperature, strict=True
        ):
            lines.append(
                f"{name} is predicted from a probability of {threshold:.3f}; temperature "
                f"{temperature:.3f}."
            )
    else:
        lines.append(f"Temperature {info.temperature:.3f}, fitted on validation for this file.")
    if isinstance(info.threshold, int | float):
        lines.append(f"{info.labels[1]} is predicted from a probability of {info.threshold:.3f}.")
    if rule := info.run.get("threshold_rule"):
        lines.append(
            "The threshold reproduces the decisions of the Keras model at the threshold that the "
            f"rule {rule} chose on validation."
        )
    if info.shift:
        lines.append(
            "The file shifts its probabilities so that 0.5, and the most probable class, is the "
            "decision. They are therefore not the probabilities of the report; "
            "`cxr_tfds.Classifier` restores those."
        )
    for split, table in comparisons.items():
        lines.append(f"{split}: {table.images:,} images, {_describe(table)}.")
        lines += [f"{split}, {name}: {_describe(each)}." for name, each in table.findings.items()]
    if kept := info.run.get("float_layers"):
        lines.append(f"Layers in float32: {', '.join(kept)}.")
    lines += [f"**Warning:** {warning}" for warning in warnings]
    section = "".join(f"- {line}\n" for line in lines)
    return f"{run_card.rstrip()}\n\n## This file\n\n{section}"


def _describe(table: Comparison) -> str:
    """Returns a comparison as a phrase."""
    parts = [f"{describe_agreement(table)} decided as by the Keras model"]
    rates = []
    if table.auc is not None:
        rates.append(f"AUC {table.auc:.4f} (Keras {table.auc_keras:.4f})")
    if table.accuracy is not None:
        rates.append(f"accuracy {table.accuracy:.4f} (Keras {table.accuracy_keras:.4f})")
    return "; ".join([*parts, ", ".join(rates)] if rates else parts)


def to_text(files: Sequence[Exported]) -> str:
    """Returns tables of the comparisons and the runtimes, and which of several files is best."""
    refused = [
        f"{file.quantization} does not run in {runtime}: {reason}"
        for file in files
        for runtime, reason in file.refused.items()
    ]
    tables = [_agreement_table(files), "", _metric_table(files), "", _runtime_table(files)]
    lines = [*tables, *refused]
    if len(files) > 1:
        best = ", ".join(f"{name} in {runtime}" for runtime, name in fastest(files).items())
        lines += ["", f"fastest: {best}", f"smallest: {smallest(files)}"]
    return "\n".join(lines)


def _agreement_table(files: Sequence[Exported]) -> str:
    rows: list[Sequence[object]] = [("format", "KB", "split", "images", "agreement", "95% CI")]
    for file in files:
        size = f"{file.size_bytes / 1000:.0f}"
        for name, table in _comparison_rows(file):
            low, high = table.agreement_low, table.agreement_high
            interval = "-" if low is None else f"{low:.2%} to {high:.2%}"
            agreement = f"{table.agreement:.2%}"
            rows.append((file.quantization, size, name, table.images, agreement, interval))
    return text_table(rows, "<><>>>", keys=3)


def _metric_table(files: Sequence[Exported]) -> str:
    header = "format, split, AUC, Keras, accuracy, Keras, difference, mean"
    rows: list[Sequence[object]] = [header.split(", ")]
    for file in files:
        for name, table in _comparison_rows(file):
            rates = (table.auc, table.auc_keras, table.accuracy, table.accuracy_keras)
            numbers = (*rates, table.max_difference, table.mean_difference)
            cells = ("-" if number is None else f"{number:.4f}" for number in numbers)
            rows.append((file.quantization, name, *cells))
    return text_table(rows, "<<" + ">" * 6, keys=2)


def _comparison_rows(file: Exported) -> Iterator[tuple[str, Comparison]]:
    """Yields each split, and below it each of several findings, with its comparison."""
    for split, table in file.comparisons.items():
        yield split, table
        for name, each in table.findings.items():
            yield f"- {name}", each


def _runtime_table(files: Sequence[Exported]) -> str:
    rows: list[Sequence[object]] = [("format", "runtime", "version", "agreement", "ms", "peak MB")]
    for file in files:
        for run in file.ran:
            peak = "-" if run.peak_mb is None else f"{run.peak_mb:.0f}"
            numbers = (f"{run.agreement:.2%}", f"{run.latency_ms:.2f}", peak)
            rows.append((file.quantization, run.runtime, run.version, *numbers))
    return text_table(rows, "<<<>>>", keys=2)
