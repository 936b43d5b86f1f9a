"""The figures of a model on labelled files: the same code that measures a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.metrics.summary import evaluate_split

from .model_file import Card

if TYPE_CHECKING:
    from .predict import Answer


def measured(card: Card, answers: Iterable[Answer], place: str) -> dict[str, Any]:
    """The figures of labelled files, and under `skipped` those without an answer.

    Raises:
      InputError: a class has no answer.
    """
    known: list[int] = []
    probabilities: list[tuple[float, ...]] = []
    skipped = []
    for file, answer in answers:
        if isinstance(answer, str):
            skipped.append({"file": file.name, "error": answer})
        else:
            known.append(file.label)
            probabilities.append(answer.probabilities)
    empty = [label for index, label in enumerate(card.labels) if index not in known]
    if empty:
        raise InputError(f"{place} holds no radiograph of {', '.join(empty)} that can be read.")
    scores = np.array(probabilities)
    if card.threshold is not None:
        scores = scores[:, 1]
    return {**evaluate_split(known, scores, card.threshold, class_names=card.labels), "skipped": skipped}
