"""What an export found, for `export.json` and for the screen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .check import Comparison
from .edge.model_file import Card


class InRuntime(NamedTuple):
    """A file in one runtime."""

    runtime: str
    version: str
    images: int  # of validation, that were run
    agreement: float  # part of them decided as the Keras model decides
    latency_ms: float  # median of 50, one thread
    peak_mb: (
        float | None
    )  # of a process that holds nothing else; None where the system does not tell


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
        table = {
            split: dataclasses.asdict(comparison) for split, comparison in self.comparisons.items()
        }
        ran = [found._asdict() for found in self.ran]
        return {**self._asdict(), "path": self.path.name, "comparisons": table, "ran": ran}


def as_json(files: Sequence[Exported], kept: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The content of `export.json`.

    Args:
      files: of this export. The fastest by runtime and the smallest are named of these alone: latencies of
        another day, or another machine, are no match for them.
      kept: rows of earlier exports.
    """
    rows = [file.as_json() for file in files]
    return {"files": [*kept, *rows], "fastest": fastest(files), "smallest": smallest(files)}


def fastest(files: Sequence[Exported]) -> dict[str, str]:
    """Name of the file with the lowest latency, by runtime."""
    best: dict[str, tuple[float, str]] = {}
    for file in files:
        for found in file.ran:
            candidate = (found.latency_ms, file.path.name)
            best[found.runtime] = min(candidate, best.get(found.runtime, candidate))
    return {runtime: name for runtime, (_, name) in best.items()}


def smallest(files: Sequence[Exported]) -> str:
    return min(files, key=lambda file: file.size_bytes).path.name


def card_text(about: str | None, card: Card, comparisons: Mapping[str, Comparison]) -> str | None:
    """The model card inside a file: that of the run and, last, what holds for the file alone.

    Args:
      about: `MODEL_CARD.md` of the run, whose threshold and figures are those of the Keras model; None gives None.
      card: of the file.
      comparisons: by split.
    """
    if about is None:
        return None
    called = ""
    if card.threshold is not None:
        called = f"{card.labels[1]} is called from a probability of {card.threshold:.3f}; "
    lines = [
        f"{card.quantization}, {card.input} in, for {' and '.join(card.runtimes)}. What stands above is measured with "
        "the Keras model.",
        f"{called}the temperature is {card.temperature:.3f}, fitted on validation for this file.",
    ]
    for split, found in comparisons.items():
        area = "" if found.auc is None else f"AUC {found.auc:.4f} (Keras {found.auc_keras:.4f}), "
        lines.append(
            f"{split}: {found.images:,} images, {found.agreement:.2%} decided as by the Keras model; "
            f"{area}accuracy {found.accuracy:.4f} (Keras {found.accuracy_keras:.4f})"
        )
    if kept := card.run.get("float_layers"):
        lines.append(f"Left in float32: {', '.join(kept)}")
    return "\n".join(
        [about.rstrip("\n"), "", "## This file", "", *(f"- {line}" for line in lines), ""]
    )


def as_text(files: Sequence[Exported]) -> str:
    """How the files compare with Keras and how they run, then the fastest and the smallest."""
    best = ", ".join(f"{name} in {runtime}" for runtime, name in fastest(files).items())
    return "\n".join(
        [
            *_compared(files),
            "",
            *_run(files),
            "",
            f"fastest: {best}",
            f"smallest: {smallest(files)}",
        ]
    )


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
        lines += [
            f"{file.quantization:<13} does not run in {name}: {why}"
            for name, why in file.refused.items()
        ]
    return lines
