"""Durations on the command line, such as 60s. Loads no TensorFlow."""

from __future__ import annotations

import re

from cxr_tfds.errors import InputError

# A checkpoint of the largest model, resnet50v2, has 283 MB and takes 0.4 s on a local disk and 3 s
# where 95 MB are written in a second: 1% of this time. One of `edge` takes 17 ms (2026-11).
CHECKPOINT_EVERY = "5m"
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Returns the seconds of a duration such as 90s, 1.5m or 1h.

    Raises:
      InputError: The text is not a positive number with a unit.
    """
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)(ms|s|m|h)", text.strip())
    if not found or not float(found[1]):
        raise InputError(f"{text!r}; expected a duration above 0, such as 60s, 5m or 1h.")
    return float(found[1]) * _SECONDS[found[2]]
