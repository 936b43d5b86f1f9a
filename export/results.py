"""What an export found, for `export.json` and for the screen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .check import Comparison


class InRuntime(NamedTuple):
    """A file in one runtime."""

    runtime: str
    version: str
    images: int  # of validation, that were run
    agreement: float  # part of them decided as the Keras model decides
    latency_ms: float  # median of 50, one thread
    peak_mb: float | None  # of a process that holds nothing else; None where the system does not tell


class Exported(NamedTuple):
    """A published file and how it compares."""

    path: Path
    quantization: str
    size_bytes: int
    temperature: float
    threshold: float | None  # of the probability at that temperature
    comparisons: dict[str, Comparison]  # by split, in LiteRT
    ran: list[InRuntime]
    refused: dict[str, str]  # by runtime, why it cannot run the file

    def as_json(self) -> dict[str, Any]:
        table = {split: dataclasses.asdict(comparison) for split, comparison in self.comparisons.items()}
        ran = [found._asdict() for found in self.ran]
        return {**self._asdict(), "path": self.path.name, "comparisons": table, "ran": ran}


def as_json(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The content of `export.json` from a row a file; fastest by runtime and smallest are names of formats."""
    return {"files": list(rows), "fastest": fastest(rows), "smallest": smallest(rows)}


def fastest(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The format with the lowest latency, by runtime."""
    best: dict[str, tuple[float, str]] = {}
    for row in rows:
        for found in row["ran"]:
            candidate = (found["latency_ms"], row["quantization"])
            best[found["runtime"]] = min(candidate, best.get(found["runtime"], candidate))
    return {runtime: name for runtime, (_, name) in best.items()}


def smallest(rows: Sequence[dict[str, Any]]) -> str:
    return min(rows, key=lambda row: row["size_bytes"])["quantization"]


def as_text(files: Sequence[Exported]) -> str:
    """How the files compare with Keras and how they run, then the fastest and the smallest."""
    rows = [file.as_json() for file in files]
    best = ", ".join(f"{name} in {runtime}" for runtime, name in fastest(rows).items())
    return "\n".join([*_compared(files), "", *_run(files), "", f"fastest: {best}", f"smallest: {smallest(rows)}"])


def _compared(files: Sequence[Exported]) -> list[str]:
    lines = [
        f"{'format':<13} {'KB':>5}  {'split':<10} {'agreement':>9}  {'AUC':>6} {'Keras':>6}  "
        f"{'accuracy':>8} {'Keras':>6}  {'difference':>10} {'mean':>6}"
    ]
    for file in files:
        for split, c in file.comparisons.items():
            aucs = f"{c.auc:6.4f} {c.auc_keras:6.4f}" if c.auc is not None else f"{'':6} {'':6}"
            lines.append(
                f"{file.quantization:<13} {file.size_bytes / 1000:5.0f}  {split:<10} {c.agreement:9.2%}  {aucs}  "
                f"{c.accuracy:8.4f} {c.accuracy_keras:6.4f}  {c.max_difference:10.4f} {c.mean_difference:6.4f}"
            )
    return lines


def _run(files: Sequence[Exported]) -> list[str]:
    lines = [f"{'format':<13} {'runtime':<21} {'agreement':>9}  {'ms':>7}  {'peak MB':>7}"]
    for file in files:
        for found in file.ran:
            peak = "-" if found.peak_mb is None else f"{found.peak_mb:.0f}"
            lines.append(
                f"{file.quantization:<13} {found.runtime + ' ' + found.version:<21} {found.agreement:9.2%}  "
                f"{found.latency_ms:7.2f}  {peak:>7}"
            )
        lines += [f"{file.quantization:<13} does not run in {name}: {why}" for name, why in file.refused.items()]
    return lines
