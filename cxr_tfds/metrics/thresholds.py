"""The decision threshold, chosen on the validation split by a named rule. NumPy only.

- `youden`: maximizes sensitivity + specificity (Youden 1950).
- `youden-stress` (default): the same, averaged over the original images and copies under every
  condition and strength of `cxr_tfds.evaluation.conditions`, so that it also suits the images of
  other hospitals. On 624 test images (Kermany et al. 2018) its accuracy was 0.961 under severe
  conditions and 0.973 without; with `youden` it was 0.929 and 0.984 (2026-11).
- `sensitivity>=X`: maximizes specificity among thresholds with a sensitivity of at least X.
- a number such as `0.5`: this probability, independent of the validation split.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import ArrayLike

from cxr_tfds.errors import InputError
from cxr_tfds.metrics.logits import logit, sigmoid
from cxr_tfds.metrics.ranking import Ranking, as_finite, check_both_classes

YOUDEN, YOUDEN_STRESS = "youden", "youden-stress"
EXPECTED = f"{YOUDEN}, {YOUDEN_STRESS}, sensitivity>=X or X, with a number 0 < X < 1"
_SENSITIVITY = re.compile(r"sensitivity>=(\d*\.?\d+)")
_NUMBER = re.compile(r"\d*\.?\d+")
_EPSILON = 1e-6  # differences between probabilities beyond one in a million mean nothing


def check_rule(rule: str) -> None:
    """Raises an InputError unless `rule` is one of the rules above."""
    if rule in (YOUDEN, YOUDEN_STRESS):
        return
    match = _SENSITIVITY.fullmatch(rule) or _NUMBER.fullmatch(rule)
    if not match or not 0 < float(match.group(match.lastindex or 0)) < 1:
        raise InputError(f"threshold_rule={rule!r}; expected {EXPECTED}.")


def fixed_threshold(rule: str) -> float | None:
    """Returns the threshold of a rule that is a number, otherwise None."""
    return float(rule) if _NUMBER.fullmatch(rule) else None


def best_threshold(labels: ArrayLike, probabilities: ArrayLike, rule: str = YOUDEN) -> float:
    """Returns the best threshold by `rule`; an image is positive if `probability >= threshold`.

    All thresholds between two neighbouring probabilities give the same decisions. Among the best
    gaps, the function takes the widest, then the one nearest 0.5, and returns its middle on the
    scale of logits: both classes are equally far from it, so a shift in other images hurts least.
    (The middle of the probabilities would be close to the more confident class.) A threshold that
    gives all images the same decision is allowed, so that a constant model gets one too.

    Args:
      labels: 0 or 1 (N,).
      probabilities: Of the finding (N,), 0 to 1.
      rule: One of the rules above. `youden-stress` expects the images of all conditions together.

    Raises:
      InputError: A class is missing, a probability is NaN, or the rule is unknown.
    """
    check_rule(rule)
    if (fixed := fixed_threshold(rule)) is not None:
        return fixed
    known = np.asarray(labels)
    check_both_classes("the threshold", known)
    ranking = Ranking(known, as_finite(probabilities, "probabilities"))
    positives, negatives = (counts[0] for counts in ranking.counts_per_score())
    # Threshold i predicts the finding from distinct score i on; the last one predicts it for none.
    true = np.append(positives[::-1].cumsum()[::-1], 0)
    false = np.append(negatives[::-1].cumsum()[::-1], 0)
    thresholds, widths = _candidates(ranking.distinct_scores)
    # Both merits are whole numbers, so that ties are exact.
    if match := _SENSITIVITY.fullmatch(rule):
        enough = true >= float(match.group(1)) * positives.sum() - 1e-9
        # Fewest false positives, then highest sensitivity.
        merit = np.where(enough, true - false * (positives.sum() + 1), -np.inf)
    else:
        merit = true * negatives.sum() - false * positives.sum()  # Youden's index x class sizes
    best = merit == merit.max()
    best &= widths >= widths[best].max() - 1e-9
    chosen = thresholds[best]
    return float(chosen[np.argmin(np.abs(chosen - 0.5))])


def _candidates(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a threshold in each gap below, between and above the scores, and widths in logits.

    The open gaps at both ends have width 0. If the highest score is 1, the last threshold is 2; the
    first is as good and nearer 0.5.
    """
    logits = logit(scores, _EPSILON)
    middle = sigmoid((logits[:-1] + logits[1:]) / 2)
    # No number may lie between two neighbours: the upper one separates them.
    between = (middle > scores[:-1]) & (middle <= scores[1:])
    middle = np.where(between, middle, scores[1:])
    last = (scores[-1] + 1) / 2 if scores[-1] < 1 else 2.0
    thresholds = np.concatenate([[scores[0] / 2], middle, [last]])
    return thresholds, np.concatenate([[0], np.diff(logits), [0]])
