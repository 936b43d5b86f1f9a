"""Compares an exported model with the Keras model it came from. NumPy only.

A model of several findings is judged finding by finding, each with its own temperature and
threshold. A finding that validation does not have both present and absent is compared, not judged:
training has not fitted its threshold either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cxr_tfds.metrics.logits import decisions, logit, probabilities, sigmoid
from cxr_tfds.metrics.ranking import auc
from cxr_tfds.metrics.reliability import trials_needed, wilson_interval
from cxr_tfds.metrics.temperature import fit_temperature
from cxr_tfds.metrics.thresholds import best_threshold


class Reference(NamedTuple):
    """The Keras model on a split: for classes, or for one of several findings."""

    # Class numbers int64 (N,); for a finding float32 (N,): 1, 0, or NaN, which does not count.
    labels: np.ndarray
    logits: np.ndarray  # float32 (N,) for two classes or a finding, (N, K) for more classes
    threshold: float | None  # of the probability; None for more than two classes
    temperature: float = 1.0

    @property
    def decisions(self) -> np.ndarray:
        """Class numbers (N,)."""
        return decisions(probabilities(self.logits, self.temperature), self.threshold)

    @property
    def counted(self) -> np.ndarray:
        """Which images have a label, bool (N,)."""
        return ~np.isnan(self.labels)

    @property
    def known_labels(self) -> np.ndarray:
        """Class numbers int64 of the images that have a label."""
        return self.labels[self.counted].astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """An exported model and its Keras model on the same images, each at its own threshold.

    For several findings `images`, `agreement` and the differences are about all findings of all
    images, and the others are means over the findings that have them.
    """

    images: int  # all; AUC and accuracy are about the labelled ones
    agreement: float  # share of images with equal decisions
    auc_keras: float | None  # None if a class has no image; K > 2: mean of one against the others
    auc: float | None
    accuracy_keras: float | None  # None if no image has a label
    accuracy: float | None
    max_difference: float  # of the probabilities, both at temperature 1
    mean_difference: float
    # 95% interval of the agreement; None for several findings together, which depend on each other.
    agreement_low: float | None = None
    agreement_high: float | None = None
    findings: dict[str, Comparison] = dataclasses.field(default_factory=dict)


def compare(
    keras: Reference, logits: np.ndarray, threshold: float | None, temperature: float = 1.0
) -> Comparison:
    """Compares an exported model's logits with the Keras model's, in the same order.

    `threshold` is for the exported model's probability at `temperature`.
    """
    expected = keras.decisions
    decided = decisions(probabilities(logits, temperature), threshold)
    difference = np.abs(probabilities(keras.logits) - probabilities(logits))
    counted, labels = keras.counted, keras.known_labels
    equal = expected == decided
    low, high = wilson_interval(equal.sum(keepdims=True), np.array([len(equal)]))
    return Comparison(
        images=len(expected),
        agreement=float(equal.mean()),
        auc_keras=_auc(labels, keras.logits[counted], keras.temperature),
        auc=_auc(labels, logits[counted], temperature),
        accuracy_keras=_share(expected[counted] == labels),
        accuracy=_share(decided[counted] == labels),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        agreement_low=float(low[0]),
        agreement_high=float(high[0]),
    )


def _share(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _auc(labels: np.ndarray, logits: np.ndarray, temperature: float) -> float | None:
    if len(np.unique(labels)) < (2 if logits.ndim == 1 else logits.shape[1]):
        return None
    if logits.ndim == 1:
        return auc(labels, logits)
    # The temperature changes the order of the images if there are more than two classes.
    columns = probabilities(logits, temperature).T
    return float(np.mean([auc(labels == number, column) for number, column in enumerate(columns)]))


def matching_threshold(
    keras: Reference, logits: np.ndarray, temperature: float = 1.0
) -> float | None:
    """Returns the threshold that reproduces the Keras model's decisions, given the same images.

    This is the Keras model's threshold, adjusted to the temperature, if every decision then agrees.
    Quantized scores move in steps, so otherwise it is the threshold that separates the Keras
    model's decisions best. None for more than two classes.
    """
    if keras.threshold is None:
        return None
    adjusted = keras.threshold
    if 0 < adjusted < 1 and temperature != keras.temperature:
        adjusted = float(sigmoid(logit(adjusted) * keras.temperature / temperature))
    expected = keras.decisions
    exported = probabilities(logits, temperature)
    if (decisions(exported, adjusted) == expected).all() or len(set(expected)) == 1:
        return adjusted
    return best_threshold(expected, exported)


class Verdict(NamedTuple):
    """Temperature and threshold of an exported model, fitted on validation, and how it compares."""

    temperature: float | tuple[float, ...]  # of each of several findings
    threshold: float | tuple[float, ...] | None  # None for more than two classes
    comparisons: dict[str, Comparison]  # by split

    @property
    def not_judged(self) -> list[str]:
        """The findings that validation does not have both present and absent."""
        findings = self.comparisons["validation"].findings
        return [name for name, comparison in findings.items() if comparison.auc is None]


def judge(keras: Mapping[str, Reference], logits: Mapping[str, np.ndarray]) -> Verdict:
    """Fits temperature and threshold of an exported model on validation; compares every split."""
    temperature, threshold = _fit(keras["validation"], logits["validation"])
    comparisons = {
        split: compare(reference, logits[split], threshold, temperature)
        for split, reference in keras.items()
    }
    return Verdict(temperature, threshold, comparisons)


def judge_findings(
    keras: Mapping[str, Mapping[str, Reference]], logits: Mapping[str, np.ndarray]
) -> Verdict:
    """Returns the same as `judge` for several findings.

    Args:
      keras: The Keras model by split and finding.
      logits: The exported model's logits (N, K) by split.
    """
    columns = {split: dict(zip(keras[split], logits[split].T, strict=True)) for split in keras}
    fitted = {
        name: _fit(reference, columns["validation"][name])
        for name, reference in keras["validation"].items()
    }
    comparisons = {
        split: _combine(
            {
                name: compare(reference, columns[split][name], threshold, temperature)
                for (name, reference), (temperature, threshold) in zip(
                    references.items(), fitted.values(), strict=True
                )
            }
        )
        for split, references in keras.items()
    }
    temperatures, thresholds = zip(*fitted.values(), strict=True)
    return Verdict(temperatures, thresholds, comparisons)


def _fit(validation: Reference, logits: np.ndarray) -> tuple[float, Any]:
    """Returns temperature and threshold of an exported model."""
    labels, is_finding = validation.known_labels, validation.labels.dtype.kind == "f"
    temperature = validation.temperature
    if not is_finding or len(np.unique(labels)) == 2:
        temperature = fit_temperature(labels, logits[validation.counted])
    return temperature, matching_threshold(validation, logits, temperature)


def _combine(findings: dict[str, Comparison]) -> Comparison:
    """Returns one comparison of all findings."""

    def mean(field: str) -> float | None:
        values = [getattr(each, field) for each in findings.values()]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    every = list(findings.values())
    return Comparison(
        images=every[0].images,
        agreement=float(np.mean([each.agreement for each in every])),
        auc_keras=mean("auc_keras"),
        auc=mean("auc"),
        accuracy_keras=mean("accuracy_keras"),
        accuracy=mean("accuracy"),
        max_difference=max(each.max_difference for each in every),
        mean_difference=float(np.mean([each.mean_difference for each in every])),
        findings=findings,
    )


def explain_failure(
    comparison: Comparison, max_auc_drop: float, min_agreement: float
) -> str | None:
    """Returns why the exported model must not be published, or None.

    The worst of several findings decides.
    """
    if comparison.findings:
        failures = {
            name: failure
            for name, each in comparison.findings.items()
            if each.auc is not None
            and (failure := explain_failure(each, max_auc_drop, min_agreement))
        }
        if not failures:
            return None
        worst = min(failures, key=lambda name: comparison.findings[name].agreement)
        others = f" ({len(failures)} findings fail)" if len(failures) > 1 else ""
        return f"for {worst} {failures[worst]}{others}"
    auc, keras, agreement = comparison.auc, comparison.auc_keras, comparison.agreement
    if auc is not None and keras is not None and keras - auc > max_auc_drop:
        return f"its AUC is {auc:.4f}, {keras:.4f} in Keras; at most {max_auc_drop} may be lost"
    if agreement < min_agreement:
        return (
            f"it makes {describe_agreement(comparison)} of the Keras model's decisions; "
            f"expected at least {min_agreement:.2%}"
        )
    return None


def describe_agreement(comparison: Comparison) -> str:
    """Returns the agreement with its interval, such as "93.75% (95% CI 71.67% to 98.89%)"."""
    low, high = comparison.agreement_low, comparison.agreement_high
    interval = "" if low is None else f" (95% CI {low:.2%} to {high:.2%})"
    return f"{comparison.agreement:.2%}{interval}"


def find_doubts(
    comparisons: Mapping[str, Comparison], max_auc_drop: float, min_agreement: float
) -> list[str]:
    """Returns why a file that stays within the limits on validation may still be worse.

    The test split chooses nothing, neither temperature nor threshold: it can only raise a doubt.
    """
    doubts, images = [], comparisons["validation"].images
    needed = trials_needed(min_agreement)
    if needed is not None and images < needed:
        low = wilson_interval(np.array([images]), np.array([images]))[0][0]
        doubts.append(
            f"validation has {images} images. Even if all of their decisions agree, only an "
            f"agreement of {low:.1%} is certain (95% CI); {needed} images would show "
            f"{min_agreement:.1%}."
        )
    test = comparisons.get("test")
    if test and (failure := explain_failure(test, max_auc_drop, min_agreement)):
        doubts.append(f"on test ({test.images} images) {failure}.")
    return doubts
