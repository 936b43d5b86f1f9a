"""The operating points that a visitor may choose. No Streamlit."""

from __future__ import annotations

from typing import NamedTuple

from cxr_tfds.metrics.thresholds import YOUDEN
from cxr_tfds.text import percent

from ..model_info import ModelInfo
from ..operating_point import choose_threshold, describe_threshold

_AT_LEAST = "sensitivity>="


class Choice(NamedTuple):
    """Thresholds and the words for them."""

    text: str
    thresholds: dict[str, float]  # by class or finding
    note: str  # what they achieve on the validation split; "" if the file does not state it


def list_choices(info: ModelInfo) -> list[Choice]:
    """Returns the thresholds of the file, then its operating points; empty without a threshold."""
    if info.threshold is None:
        return []
    choices = [_make_choice("As exported", info)]
    points = next(filter(None, info.operating_points.values()), [])
    for rule in (point["rule"] for point in points):
        choice = _make_choice(_name_rule(rule), choose_threshold(info, rule))
        # With few images, several rules lead to the same threshold.
        if choice.thresholds not in [x.thresholds for x in choices[1:]]:
            choices.append(choice)
    return choices


def _make_choice(name: str, info: ModelInfo) -> Choice:
    if isinstance(info.threshold, tuple):
        return Choice(name, dict(zip(info.labels, info.threshold, strict=True)), "")
    assert info.threshold is not None
    text = f"{name}: {info.labels[1]} from {percent(info.threshold, 1)}"
    (sentence,) = describe_threshold(info)
    is_measured = "sensitivity" in sentence
    return Choice(text, {info.labels[1]: info.threshold}, sentence if is_measured else "")


def _name_rule(rule: str) -> str:
    if rule == YOUDEN:
        return "Highest sum of sensitivity and specificity"
    if rule.startswith(_AT_LEAST):
        return f"Sensitivity of at least {percent(float(rule.removeprefix(_AT_LEAST)))}"
    return rule
