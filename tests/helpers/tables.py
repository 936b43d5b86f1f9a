"""Draws sources with a table and reads them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.sources.config_json import repeat_settings
from cxr_tfds.sources.image import Listing, State
from cxr_tfds.sources.settings import ReaderSettings
from cxr_tfds.sources.tables.reader import list_table_images


def draw(folder: Path, *names: str) -> Path:
    """Writes empty files, which nothing decodes."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def table(folder: Path, *lines: str, name: str = "t.csv") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return folder


def read(source: Path, **settings: Any) -> Listing:
    settings = {"table": "t.csv", **settings}
    with repeat_settings(settings):
        return list_table_images(source, ReaderSettings(**settings))


def labels(listing: Listing) -> dict[str, str]:
    return {image.image_id: image.label for image in listing.images}


def states(listing: Listing) -> dict[str, tuple[State, ...]]:
    return {image.image_id: image.states for image in listing.images}


def config_of(error: pytest.ExceptionInfo[InputError]) -> dict[str, Any]:
    """Returns the last config that a message proposes."""
    command = shlex.split(str(error.value).rpartition("--config ")[2])[0]
    config = json.loads(command)
    assert config.pop("name") == "224-mine"
    return dict(config)
