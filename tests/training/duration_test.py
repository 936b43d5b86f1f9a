"""Durations on the command line."""

import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.training.duration import CHECKPOINT_EVERY, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("1.5m", 90), (" 2h ", 7200), (".5s", 0.5), ("20ms", 0.02)],
)
def test_returns_seconds(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)
    assert parse_duration(CHECKPOINT_EVERY) == 300


@pytest.mark.parametrize("text", ["", "5", "s", "0m", "-1s", "1d", "1 s", "1e3s", "nans", "1s2"])
def test_refuses_what_is_not_a_duration(text):
    with pytest.raises(InputError, match="expected a duration above 0, such as 60s, 5m or 1h"):
        parse_duration(text)
