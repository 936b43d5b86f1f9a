"""Checks of labels and scores. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cxr_tfds.errors import InputError


def as_finite(values: ArrayLike, name: str) -> np.ndarray:
    """Returns scores as float64; raises an InputError if one is NaN or infinite."""
    array = np.asarray(values, dtype=np.float64)
    wrong = array[~np.isfinite(array)]
    if wrong.size:
        raise InputError(f"{name} contain {wrong[0]}; expected finite numbers.")
    return array


def check_both_classes(metric: str, labels: np.ndarray) -> None:
    """Raises an InputError unless both 0 and 1 occur among the labels."""
    for label in (0, 1):
        if label not in labels:
            raise InputError(
                f"{metric} is undefined: none of the {len(labels)} images is labelled {label}."
            )
