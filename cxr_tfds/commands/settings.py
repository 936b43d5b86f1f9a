"""The option `--set NAME=VALUE`, for shells in which JSON is hard to quote."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any

import click

_NUMBERS = ("size", "channels", "bits", "seed")  # settings that hold a number


def parse_sets(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, Any]:
    """Returns the settings of `--set NAME=VALUE`.

    Lists, mappings and null are JSON, and so are the settings that hold numbers. Else the value is
    text: a class or a config may be named 0.
    """
    settings = {}
    for text in values:
        name, separator, value = (part.strip() for part in text.partition("="))
        if not (name and separator):
            message = f"{text!r}; expected NAME=VALUE, such as negative=Clear."
            raise click.BadParameter(message, ctx, param)
        settings[name] = value
        if name in _NUMBERS or value[:1] in ("[", "{", '"') or value == "null":
            with contextlib.suppress(ValueError):  # the setting refuses it
                settings[name] = json.loads(value)
    return settings


sets = click.option(
    "--set",
    "sets",
    metavar="NAME=VALUE",
    multiple=True,
    callback=parse_sets,
    help="One setting of --config without JSON, such as --set size=320 --set negative=Clear. "
    "Lists and mappings are JSON. May be repeated.",
)
