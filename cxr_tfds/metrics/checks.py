"""Checks of labels, scores and probabilities. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cxr_tfds.errors import InputError


def whole_numbers(values: ArrayLike, what: str, classes: int) -> np.ndarray:
    """int64 (N,), 0 to classes - 1; InputError for anything else."""
    array = np.asarray(values)
    if array.ndim != 1 or not array.size:
        raise InputError(f"{what}s of shape {array.shape}; expected (N,) with N > 0.")
    wrong = array[~np.isin(array, np.arange(classes))]
    if wrong.size:
        raise InputError(f"{what} {wrong[0]!s}; expected whole numbers from 0 to {classes - 1}.")
    return array.astype(np.int64)


def numbers(values: ArrayLike, what: str, ndim: int = 1) -> np.ndarray:
    """Finite float64, (N,) or (N, K); InputError for anything else."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim:
        raise InputError(
            f"{what} of shape {array.shape}; expected {'(N,)' if ndim == 1 else '(N, K)'}."
        )
    if not np.isfinite(array).all():
        raise InputError(f"{what} hold {array[~np.isfinite(array)][0]}; expected finite numbers.")
    return array


def probabilities_of(values: ArrayLike, ndim: int = 1) -> np.ndarray:
    """float64, 0 to 1, (N,) or (N, K); InputError for anything else."""
    array = numbers(values, "probabilities", ndim)
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise InputError(f"probabilities from {array.min():g} to {array.max():g}; expected 0 to 1.")
    return array


def check_length(labels: np.ndarray, others: np.ndarray, what: str) -> None:
    """Raises:
    InputError: not one value for each label.
    """
    if len(others) != len(labels):
        raise InputError(f"{len(others)} {what} for {len(labels)} labels; expected one for each.")


def check_classes(metric: str, labels: np.ndarray, classes: int) -> None:
    """Raises:
    InputError: one of the classes 0 to classes - 1 has no image.
    """
    missing = sorted(set(range(classes)) - set(labels.tolist()))
    if missing:
        names = ", ".join(map(str, missing))
        raise InputError(
            f"{metric} is undefined: none of the {len(labels)} images is labelled {names}."
        )
