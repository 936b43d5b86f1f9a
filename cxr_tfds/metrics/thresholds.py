"""The probability from which the finding is called, chosen on validation by a named rule. NumPy only.

- `youden`: makes sensitivity + specificity largest (Youden 1950).
- `youden-stress`, the default: the same, on average over validation as it is and under each condition of
  `cxr_tfds.evaluation.conditions` at each strength: a threshold that serves other hospitals' images, too. On 624
  test images (Kermany et al. 2018) it had an accuracy of 0.961 under severe conditions, `youden` one of
  0.929; without any 0.973 and 0.984 (2026-11).
- `sensitivity>=X`: makes specificity largest among the thresholds that find at least the part X.
- a number such as `0.5`: that probability, whatever validation says.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import ArrayLike

from cxr_tfds.errors import InputError
from cxr_tfds.metrics.checks import check_classes, check_length, probabilities_of, whole_numbers
from cxr_tfds.metrics.ranking import Ranking

YOUDEN, YOUDEN_STRESS = "youden", "youden-stress"
EXPECTED = f"{YOUDEN}, {YOUDEN_STRESS}, sensitivity>=X or X, with a number 0 < X < 1"
_SENSITIVITY = re.compile(r"sensitivity>=(\d*\.?\d+)")
_NUMBER = re.compile(r"\d*\.?\d+")
_FLOOR = 1e-6  # probabilities beyond one in a million tell nothing more: logits stay finite


def check_rule(rule: str) -> None:
    """Raises:
    InputError: it is none of the rules above.
    """
    if rule in (YOUDEN, YOUDEN_STRESS):
        return
    match = _SENSITIVITY.fullmatch(rule) or _NUMBER.fullmatch(rule)
    if not match or not 0 < float(match.group(match.lastindex or 0)) < 1:
        raise InputError(f"threshold_rule={rule!r}; expected {EXPECTED}.")


def best_threshold(labels: ArrayLike, probabilities: ArrayLike, rule: str = YOUDEN) -> float:
    """The threshold that serves the rule best on these images; a decision is `probability >= threshold`.

    Between two neighbouring probabilities every threshold decides alike. A model that tells validation
    apart nearly without error leaves a wide gap; the middle of it on the scale of logits is as far
    from the one class as from the other there, so that a shift of other images hurts least. (The middle
    of the probabilities would lie hard against the surer class.) Of equally good gaps the widest is
    taken, then the one nearest 0.5. Deciding everything alike is allowed too, so that a constant model
    has an answer.

    Args:
      labels: 0 or 1 (N,).
      probabilities: of the finding (N,), 0 to 1.
      rule: see above; `youden-stress` expects the images of all conditions together.

    Raises:
      InputError: one class only, unequal lengths, a probability outside 0 to 1, or an unknown rule.
    """
    check_rule(rule)
    if _NUMBER.fullmatch(rule):
        return float(rule)
    known, values = whole_numbers(labels, "label", 2), probabilities_of(probabilities)
    check_length(known, values, "probabilities")
    check_classes("the threshold", known, 2)
    ranking = Ranking(known, values)
    positives, negatives = (counts[0] for counts in ranking.per_score())
    # Candidate i decides the scores from distinct[i] on as positive; the last one none.
    seen = np.append(positives[::-1].cumsum()[::-1], 0)
    false_alarms = np.append(negatives[::-1].cumsum()[::-1], 0)
    thresholds, widths = _candidates(ranking.distinct)
    if match := _SENSITIVITY.fullmatch(rule):
        enough = seen >= float(match.group(1)) * positives.sum() - 1e-9
        # Of equally few false alarms the most sensitive: whole numbers, so that ties are exact.
        merit = np.where(enough, seen - false_alarms * (positives.sum() + 1), -np.inf)
    else:
        # Youden's index times both class sizes: whole numbers, too.
        merit = seen * negatives.sum() - false_alarms * positives.sum()
    merit = np.where(thresholds <= 1, merit, -np.inf)
    best = merit == merit.max()
    best &= widths >= widths[best].max() - 1e-9
    chosen = thresholds[best]
    return float(chosen[np.argmin(np.abs(chosen - 0.5))])


def _candidates(distinct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A threshold below each distinct probability and one above them all, and the width of its gap in logits.

    The gaps at both ends have no width: they are open, and decide everything alike. Above 1 there is none
    (it is given as 2).
    """
    clipped = np.clip(distinct, _FLOOR, 1 - _FLOOR)
    logits = np.log(clipped) - np.log1p(-clipped)
    middle = 1 / (1 + np.exp(-(logits[:-1] + logits[1:]) / 2))
    # Where two neighbours are so close that no number lies between, the upper one parts them.
    inside = (middle > distinct[:-1]) & (middle <= distinct[1:])
    middle = np.where(inside, middle, distinct[1:])
    first = distinct[0] / 2
    last = (distinct[-1] + 1) / 2 if distinct[-1] < 1 else 2.0
    return np.concatenate([[first], middle, [last]]), np.concatenate([[0], np.diff(logits), [0]])
