"""What a model predicts about an image. Loads nothing."""

from __future__ import annotations

import enum
from collections.abc import Sequence


class Task(str, enum.Enum):
    """What a model predicts about an image; follows from the dataset."""

    BINARY = "binary"  # one of two classes: one logit, for the positive class
    MULTICLASS = "multiclass"  # one of K > 2 classes: a logit for each class
    FINDINGS = "findings"  # which of K findings are present: a logit for each finding

    @classmethod
    def choose(cls, labels: Sequence[str], *, several_findings: bool = False) -> Task:
        """Returns the task of learning `labels`, classes or the findings of an image."""
        if several_findings:
            return cls.FINDINGS
        return cls.BINARY if len(labels) == 2 else cls.MULTICLASS

    def outputs(self, labels: Sequence[str]) -> int:
        """Returns the number of logits of a model with this task."""
        return 1 if self is Task.BINARY else len(labels)
