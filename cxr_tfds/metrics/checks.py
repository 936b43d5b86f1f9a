"""Checks and conversions of labels, scores and probabilities. NumPy only."""

from __future__ import annotations

from collections.abc import Sized

import numpy as np
from numpy.typing import ArrayLike

from cxr_tfds.errors import InputError


def as_labels(values: ArrayLike, classes: int) -> np.ndarray:
    """Returns class numbers as int64 (N,), each from 0 to classes - 1.

    Raises:
      InputError: The shape or a value is different.
    """
    array = np.asarray(values)
    if array.ndim != 1 or not array.size:
        raise InputError(f"labels of shape {array.shape}; expected (N,) with N > 0.")
    wrong = array[~np.isin(array, np.arange(classes))]
    if wrong.size:
        raise InputError(f"label {wrong[0]!s}; expected whole numbers from 0 to {classes - 1}.")
    return array.astype(np.int64)


def as_finite(values: ArrayLike, name: str, ndim: int = 1) -> np.ndarray:
    """Returns finite numbers as float64, (N,) or (N, K).

    Raises:
      InputError: The shape is different, or a value is NaN or infinite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim:
        expected = "(N,)" if ndim == 1 else "(N, K)"
        raise InputError(f"{name} of shape {array.shape}; expected {expected}.")
    if not np.isfinite(array).all():
        wrong = array[~np.isfinite(array)][0]
        raise InputError(f"{name} contain {wrong}; expected finite numbers.")
    return array


def as_probabilities(values: ArrayLike, ndim: int = 1) -> np.ndarray:
    """Returns probabilities as float64, (N,) or (N, K), each from 0 to 1.

    Raises:
      InputError: The shape or a value is different.
    """
    array = as_finite(values, "probabilities", ndim)
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise InputError(f"probabilities from {array.min():g} to {array.max():g}; expected 0 to 1.")
    return array


def check_length(labels: np.ndarray, values: Sized, name: str) -> None:
    """Raises an InputError unless there is one value for each label."""
    if len(values) != len(labels):
        raise InputError(f"{len(values)} {name} for {len(labels)} labels; expected one for each.")


def check_both_classes(metric: str, labels: np.ndarray) -> None:
    """Raises an InputError unless both 0 and 1 occur among the labels."""
    for label in (0, 1):
        if not (labels == label).any():
            raise InputError(
                f"{metric} is undefined: none of the {len(labels)} images is labelled {label}."
            )
