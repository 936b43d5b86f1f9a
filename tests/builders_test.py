"""All datasets: configs, version, README, citation, tags and installation."""

from __future__ import annotations

import configparser
import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tensorflow_datasets as tfds

from cxr_tfds import builders

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path.parent for path in (ROOT / "builders").glob("*/*_dataset_builder.py"))


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def builder(folder: Path) -> Any:
    return importlib.import_module(
        f"cxr_tfds.builders.{folder.name}.{folder.name}_dataset_builder"
    ).Builder


def test_lists_only_224(builder: Any) -> None:
    assert [config.name for config in builder.BUILDER_CONFIGS] == ["224"]
    assert list(builder.builder_configs) == ["224"]


def test_version_has_the_newest_release_notes(builder: Any) -> None:
    newest = max(builder.RELEASE_NOTES, key=lambda version: tuple(map(int, version.split("."))))
    assert str(builder.VERSION) == newest


def test_has_readme_citation_and_tags(folder: Path, builder: Any) -> None:
    metadata = builder.get_metadata()
    assert metadata.description == (folder / "README.md").read_text(encoding="utf-8")
    assert metadata.citation.startswith("@")
    assert metadata.tags
    assert set(metadata.tags) <= set(tfds.core.dataset_metadata.valid_tags())


@pytest.mark.parametrize(
    "topic", ["Source", "Licence", "Images", "Label source", "Splits", "Dropped", "Known shortcuts"]
)
def test_readme_has_all_topics(topic: str, folder: Path) -> None:
    assert re.search(
        rf"^- \*\*{topic}\*\*:", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )


def test_accepts_the_configs_of_the_readme(folder: Path, builder: Any) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert f"tfds build {folder.name} --imports cxr_tfds.builders" in text
    options = [json.loads(option) for option in re.findall(r"--config '(\{.*?\})'", text)]
    for option in options:
        builder.builder_config_cls(**option)
    assert "original" in {option["name"] for option in options}


def test_is_installed(folder: Path) -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    module = f"cxr_tfds.builders.{folder.name}"
    assert module in config["options"]["packages"].split()
    assert config["options.package_data"][module] == "README.md, CITATIONS.bib, TAGS.txt"
    assert (
        f"{folder.name} = {module}"
        in config["options.entry_points"]["cxr_tfds.datasets"].splitlines()
    )
    assert f"{folder.name}_dataset_builder" in builders.__all__
