"""The sentences of the page. No Streamlit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from cxr_tfds.errors import BadImage
from cxr_tfds.metrics.reliability import wilson_interval
from cxr_tfds.text import percent

from ..model_info import ModelInfo
from ..prediction import Prediction, Statement
from .uploads import Result

TIMES = "\N{MULTIPLICATION SIGN}"
UNKNOWN_MEANING = (
    "The model file does not state what such a probability meant on the validation split. Export "
    "its run again with cxr-export."
)
_FEW = 20  # validation images; fewer have no percentage


def explain_probability(info: ModelInfo, name: str, probability: float) -> str:
    """Returns what a probability of class or finding `name` meant on the validation split."""
    counts = info.reliability.get(name)
    if counts is None:
        return UNKNOWN_MEANING
    bins = len(counts["images"])
    number = min(int(probability * bins), bins - 1)
    images, positives = counts["images"][number], counts["positives"][number]
    between = f"a probability from {percent(number / bins)} to {percent((number + 1) / bins)}"
    had = f"had {name}" if info.several_findings else f"had the label {name}"
    if images == 0:
        return f"No image of the validation set has {between}: there is nothing to compare with."
    if images < _FEW:
        only = "Only 1 image" if images == 1 else f"Only {images} images"
        has = "has" if images == 1 else "have"
        return f"{only} of the validation set {has} {between}; {positives} of them {had}."
    low, high = wilson_interval(np.array([positives]), np.array([images]))
    return (
        f"In the validation set, {positives:,} of {images:,} images with {between} {had} "
        f"({positives / images:.0%}, 95% CI {low[0]:.0%} to {high[0]:.0%})."
    )


def count_outcomes(results: Sequence[Result]) -> str:
    """Returns how many images there are of each class or with each finding, as text."""
    counts: Counter[str] = Counter()
    unusable = 0
    for result in results:
        if isinstance(result.outcome, BadImage):
            unusable += 1
        elif result.outcome.findings:
            counts.update(x.name for x in result.outcome.findings if x.is_present)
        else:
            counts[result.outcome.label] += 1
    total = "1 image" if len(results) == 1 else f"{len(results)} images"
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{count} {name}" for name, count in ordered]
    parts += [f"{unusable} not usable"] if unusable else []
    return f"{total}: {', '.join(parts) or 'no finding'}"


def describe_label(prediction: Prediction) -> str:
    """Returns the predicted class, or the findings that are present."""
    if not prediction.findings:
        return prediction.label
    present = [finding.name for finding in prediction.findings if finding.is_present]
    return ", ".join(present) or "no finding"


def describe_model(info: ModelInfo) -> str:
    """Returns the facts under the title of the page."""
    run, dataset = info.run.get("name", "model"), info.dataset.get("name", "")
    trained = f", trained on {dataset}" if dataset else ""
    return f"{run}: {info.quantization}, {info.size} {TIMES} {info.size} pixels{trained}"


def list_facts(info: ModelInfo) -> list[tuple[str, str]]:
    """Returns what the model file states about itself, by name."""
    facts: list[tuple[str, Any]] = [
        ("Findings" if info.several_findings else "Classes", ", ".join(info.labels)),
        ("Run", info.run.get("name")),
        ("Network", info.run.get("model")),
        ("Dataset", info.dataset.get("name")),
        ("Format", info.quantization),
        ("Input", f"{info.size} {TIMES} {info.size} pixels, fit: {info.fit}"),
    ]
    for split, metrics in info.metrics.items():
        values = [
            f"{label} {value:.3f}"
            for label, value in (("AUC", metrics.get("auc")), ("accuracy", metrics.get("accuracy")))
            if value is not None
        ]
        facts.append((f"On {split}", ", ".join(values)))
    return [(name, str(value)) for name, value in facts if value]


def explain_rule(statement: Statement, info: ModelInfo) -> str:
    """Returns the rule that turns a probability into a decision."""
    if info.several_findings or len(info.labels) == 2:
        return f"{statement.name} is {statement.rule}."
    return "The most probable class is predicted."


def explain_colours(name: str, heatmap: np.ndarray) -> str:
    """Returns what the colours of a heat map mean for a class or finding."""
    return f"What speaks for {name}" if heatmap.max() > 0 else f"No region speaks for {name}."
