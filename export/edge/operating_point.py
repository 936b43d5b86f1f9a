"""Chooses the threshold of a model file when it is used."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from cxr_tfds.errors import InputError
from cxr_tfds.metrics.operating_points import choose_point
from cxr_tfds.sources.paths import join_names
from cxr_tfds.text import did_you_mean, percent, text_table

from .model_info import ModelInfo


def choose_threshold(
    info: ModelInfo, threshold: float | str | None = None, sensitivity: float | None = None
) -> ModelInfo:
    """Returns the model info with another threshold, of several findings one for each.

    Args:
      info: The model info of the file.
      threshold: The probability from which the positive class or any finding is predicted, or the
        rule of an operating point that the file carries, such as "youden". None keeps the file's.
      sensitivity: Takes the operating point with the highest specificity among the ones that have
        at least this sensitivity on validation.

    Raises:
      InputError: Both are given, the model has more than two classes, a value is not between 0 and
        1, or the file carries no such operating point.
    """
    if threshold is None and sensitivity is None:
        return info
    if threshold is not None and sensitivity is not None:
        raise InputError("Give either a threshold or a sensitivity: each decides alone.")
    if info.threshold is None:
        raise InputError(
            f"The model chooses the most probable of {len(info.labels)} classes and has no "
            "threshold. A threshold or sensitivity needs two classes, or several findings."
        )
    number = _parse_number(threshold)
    if number is not None:
        _check_share("threshold", number)
        return _replace(info, [number] * len(_thresholds(info)))
    if sensitivity is not None:
        _check_share("sensitivity", sensitivity)
    if not any(info.operating_points.values()):
        raise InputError(
            "The file carries no operating points: an earlier version of cxr-export wrote it, or "
            "validation lacked a class. Export its run again with: cxr-export RUN --out FOLDER"
        )
    chosen = []
    for name, value in _thresholds(info).items():
        # A finding that validation does not have both present and absent keeps its threshold.
        points = info.operating_points.get(name)
        point = _find(name, points, str(threshold), sensitivity) if points else None
        chosen.append(value if point is None else float(point["threshold"]))
    return _replace(info, chosen)


def describe_threshold(info: ModelInfo) -> list[str]:
    """Returns a sentence on the threshold in use, and on what it achieves if the file knows it."""
    sentences = []
    for name, value in _thresholds(info).items():
        points = info.operating_points.get(name, [])
        point = next((x for x in points if x["threshold"] == value), None)
        sentence = f"{name} is predicted from {percent(value, 1)}"
        if point is not None:
            sentence += (
                f": sensitivity {percent(point['sensitivity'], 1)} and specificity "
                f"{percent(point['specificity'], 1)} on validation ({point['positives']:,} images "
                f"with {name}, {point['negatives']:,} without)"
            )
        sentences.append(f"{sentence}.")
    return sentences


def format_points(info: ModelInfo) -> str:
    """Returns the operating points as a table; empty if the file has none."""
    rows: list[Sequence[object]] = [("class", "rule", "threshold", "sensitivity", "specificity")]
    for name, points in info.operating_points.items():
        for point in points:
            rates = (percent(point[key], 1) for key in ("threshold", "sensitivity", "specificity"))
            rows.append((name, point["rule"], *rates))
    if len(rows) == 1:
        return ""
    images = next(points[0] for points in info.operating_points.values() if points)
    count = f"{images['positives']:,} positive and {images['negatives']:,} negative images"
    title = f"Operating points, measured on validation ({count}):"
    if info.several_findings:
        title = "Operating points of each finding, measured on validation:"
    return f"{title}\n{text_table(rows, '<<>>>')}"


def _thresholds(info: ModelInfo) -> dict[str, float]:
    """Returns the threshold of the positive class or of each finding, by name."""
    if isinstance(info.threshold, tuple):
        return dict(zip(info.labels, info.threshold, strict=True))
    return {} if info.threshold is None else {info.labels[1]: info.threshold}


def _replace(info: ModelInfo, thresholds: list[float]) -> ModelInfo:
    value: Any = tuple(thresholds) if info.several_findings else thresholds[0]
    return dataclasses.replace(info, threshold=value)


def _parse_number(threshold: float | str | None) -> float | None:
    try:
        return None if threshold is None else float(threshold)
    except ValueError:
        return None


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"{name}={value}; expected a number from 0 to 1, such as 0.95.")


def _find(
    name: str, points: Sequence[Mapping[str, Any]], rule: str, sensitivity: float | None
) -> Mapping[str, Any]:
    """Returns the point of a rule, or of a sensitivity if it is given."""
    if sensitivity is None:
        for point in points:
            if point["rule"] == rule:
                return point
        raise InputError(f"threshold: {did_you_mean(rule, [x['rule'] for x in points])}")
    chosen = choose_point(points, sensitivity)
    if chosen is None:
        highest = percent(max(point["sensitivity"] for point in points), 1)
        raise InputError(
            f"No operating point of {name} has a sensitivity of {percent(sensitivity, 1)}; the "
            f"highest is {highest}. The file has the points "
            f"{join_names([point['rule'] for point in points])}. Choose a lower sensitivity, or "
            "give a threshold."
        )
    return chosen
