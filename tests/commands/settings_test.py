"""Values of `--set NAME=VALUE`: JSON where a setting needs it, text otherwise."""

from __future__ import annotations

from typing import Any

import click
import pytest

from cxr_tfds.commands.settings import sets


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["size=320", "channels=3"], {"size": 320, "channels": 3}),
        (["size=null"], {"size": None}),
        (["size=large"], {"size": "large"}),  # the setting refuses it
        (["negative=A"], {"negative": "A"}),
        (["negative=0", "name=320"], {"negative": "0", "name": "320"}),
        (["negative="], {"negative": ""}),
        (["negative = No finding "], {"negative": "No finding"}),
        (["split=fold:0/5"], {"split": "fold:0/5"}),
        (['classes={"A": ["b"]}'], {"classes": {"A": ["b"]}}),
        (["window=[-600, 1500]"], {"window": [-600, 1500]}),
        (["patient=^(p[0-9]+)_"], {"patient": "^(p[0-9]+)_"}),
        (["patient=[a-z]+"], {"patient": "[a-z]+"}),
        (["patient=a=(b)"], {"patient": "a=(b)"}),
        (["fit=pad", "fit=crop"], {"fit": "crop"}),
        ([], {}),
    ],
)
def test_parses_values(words: list[str], expected: dict[str, Any]) -> None:
    command = click.Command("test", callback=lambda sets: sets)
    command = sets(command)
    args = [part for word in words for part in ("--set", word)]
    assert command.main(args, standalone_mode=False) == expected
