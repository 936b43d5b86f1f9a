"""Fits temperature and threshold of a trained model on the validation split."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from cxr_tfds.evaluation.scoring import ImageSample, Scores, score_and_sample
from cxr_tfds.evaluation.stress import score_stressed_copies, within_budget
from cxr_tfds.metrics.temperature import fit_temperature
from cxr_tfds.metrics.thresholds import YOUDEN_STRESS, best_threshold, fixed_threshold
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.sources.paths import join_names
from cxr_tfds.text import say
from cxr_tfds.training.threshold_rule import check_threshold_rule

_FALLBACK_THRESHOLD = 0.5  # of a finding that validation does not have both present and absent


def fit_decision(model: Any, scores: Scores, sample: ImageSample, config: RunConfig) -> RunConfig:
    """Returns `config` with the temperature and the threshold that fit the validation split.

    Args:
      model: The Keras model.
      scores: Its scores on the validation split.
      sample: Images of the split for the rule `youden-stress`.
      config: The config of the run.
    """
    if scores.several_findings:
        return _fit_findings(model, scores, sample, config)
    temperature = fit_temperature(scores.labels, scores.logits)
    config = dataclasses.replace(config, temperature=temperature, threshold=None)
    if scores.logits.ndim > 1:
        return config
    scores = scores._replace(temperature=temperature)
    labels, probabilities = _threshold_images(model, scores, sample, config)
    threshold = best_threshold(labels, probabilities, config.settings["threshold_rule"])
    return dataclasses.replace(config, threshold=threshold)


def with_threshold_rule(
    model: Any, dataset: BuiltDataset, config: RunConfig, rule: str
) -> RunConfig:
    """Returns the config of a finished run with a threshold chosen by another rule.

    Scores the validation split. The run folder is not changed.

    Raises:
      InputError: The rule is unknown, or the model has more than two classes.
    """
    check_threshold_rule(config, rule)
    settings = {**config.settings, "threshold_rule": rule}
    scores, sample = score_and_sample(model, dataset, "validation")
    return fit_decision(model, scores, sample, dataclasses.replace(config, settings=settings))


def _fit_findings(model: Any, scores: Scores, sample: ImageSample, config: RunConfig) -> RunConfig:
    """Fits each finding alone, on the images where it counts."""
    rule = config.settings["threshold_rule"]
    alone = [scores.of_finding(number)[1] for number in range(len(config.labels))]
    fitted = [len(np.unique(each.labels)) == 2 for each in alone]
    temperatures = tuple(
        fit_temperature(each.labels, each.logits) if is_fitted else 1.0
        for each, is_fitted in zip(alone, fitted, strict=True)
    )
    scores = scores._replace(temperature=temperatures)
    labels, probabilities = _threshold_images(model, scores, sample, config)
    thresholds = []
    for number, is_fitted in enumerate(fitted):
        if not is_fitted:
            thresholds.append(fixed_threshold(rule) or _FALLBACK_THRESHOLD)
            continue
        known, values = labels[:, number], probabilities[:, number]
        if len(np.unique(known[~np.isnan(known)])) < 2:  # the sample is too small for the finding
            known, values = scores.labels[:, number], scores.probabilities[:, number]
        counted = ~np.isnan(known)
        known = known[counted].astype(np.int64)
        thresholds.append(best_threshold(known, values[counted], rule))
    not_fitted = tuple(
        name for name, is_fitted in zip(config.labels, fitted, strict=True) if not is_fitted
    )
    if not_fitted:
        say(
            f"warning: validation does not have both present and absent images of "
            f"{join_names(not_fitted)}. Their temperature is 1 and their threshold "
            f"{fixed_threshold(rule) or _FALLBACK_THRESHOLD}."
        )
    return dataclasses.replace(
        config, temperature=temperatures, threshold=tuple(thresholds), not_fitted=not_fitted
    )


def _threshold_images(
    model: Any, scores: Scores, sample: ImageSample, config: RunConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels and probabilities from which the rule of the run chooses a threshold."""
    if config.settings["threshold_rule"] != YOUDEN_STRESS:
        return scores.labels, scores.probabilities
    return score_stressed_copies(model, scores, within_budget(model, scores, sample))
