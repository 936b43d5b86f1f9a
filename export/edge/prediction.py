"""What a model predicts about a radiograph, and the words for it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from cxr_tfds.text import percent, percents_in_order

if TYPE_CHECKING:
    import numpy as np


class Statement(NamedTuple):
    """The texts of `PNEUMONIA 16 % (predicted from 47 %) → NORMAL`."""

    name: str  # of the class or finding
    probability: str
    rule: str
    outcome: str  # the label, or whether a finding is present

    def __str__(self) -> str:
        """Returns the statement as one line."""
        return f"{self.name} {self.probability} ({self.rule}) → {self.outcome}"


@dataclasses.dataclass(frozen=True)
class FindingPrediction:
    """The prediction about one of several findings.

    Attributes:
      name: Name of the finding.
      probability: That the finding is present.
      threshold: The finding is predicted from this probability.
      is_present: Whether the finding is predicted.
      heatmap: float32 (h, w), or None if the model has none: what each place adds to the logit of
        the finding.
    """

    name: str
    probability: float
    threshold: float
    is_present: bool
    heatmap: np.ndarray | None = dataclasses.field(default=None, compare=False, repr=False)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction for one radiograph.

    `str(prediction)` is a sentence such as `PNEUMONIA 16 % (predicted from 47 %) → NORMAL`.

    Attributes:
      probability: Two classes: of the positive class, whatever the label. More classes: of the
        label. Several findings: of the most probable finding. `probabilities` has the names.
      label: Name of the predicted class. Several findings: the names of the predicted findings,
        separated by "|"; "" if none is predicted.
      threshold: Two classes: the positive class is predicted from this probability. Otherwise
        None.
      probabilities: By name of each class, in class order, or of each finding.
      heatmap: float32 (h, w), or None if the model has none: what each place adds to the logit of
        the positive class or, for more than two classes, of the label. Its mean is that logit
        minus the bias of the last layer. None for several findings: each has its own.
      findings: The prediction about each finding, if an image may have several; otherwise empty.
    """

    probability: float
    label: str
    threshold: float | None
    probabilities: dict[str, float]
    heatmap: np.ndarray | None = dataclasses.field(default=None, compare=False, repr=False)
    findings: tuple[FindingPrediction, ...] = ()

    @property
    def positive(self) -> str | None:
        """Name of the class that has the threshold, or None without a threshold."""
        return None if self.threshold is None else list(self.probabilities)[1]

    def statements(self) -> list[Statement]:
        """Returns one statement, or one for each finding."""
        if self.findings:
            return [
                _compare(
                    x.name, x.probability, x.threshold, "present" if x.is_present else "absent"
                )
                for x in self.findings
            ]
        if self.positive is not None and self.threshold is not None:
            return [_compare(self.positive, self.probability, self.threshold, self.label)]
        others = {name: x for name, x in self.probabilities.items() if name != self.label}
        second = max(others, key=others.__getitem__)
        rule = f"then {second} {percent(others[second])}"
        return [Statement(self.label, percent(self.probability), rule, self.label)]

    def __str__(self) -> str:
        """Returns the statements as text, one a line."""
        return "\n".join(map(str, self.statements()))


def _compare(name: str, probability: float, threshold: float, outcome: str) -> Statement:
    value, limit = percents_in_order(probability, threshold)
    return Statement(name, value, f"predicted from {limit}", outcome)
