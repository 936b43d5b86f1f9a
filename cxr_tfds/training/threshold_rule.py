"""Checks a threshold rule for a finished run. Loads no TensorFlow."""

from __future__ import annotations

from cxr_tfds.errors import InputError
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.sources.paths import join_names


def check_threshold_rule(config: RunConfig, rule: str) -> None:
    """Raises an InputError if a rule is unknown or the model of a run has no threshold."""
    if config.threshold is None:
        raise InputError(
            f"threshold_rule={rule!r}: the model chooses the most probable of "
            f"{len(config.labels)} classes ({join_names(config.labels)}) and has no threshold."
        )
    from cxr_tfds.metrics.thresholds import check_rule  # loads NumPy

    check_rule(rule)
