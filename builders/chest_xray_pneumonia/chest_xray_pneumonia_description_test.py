"""What the dataset says of itself: configs, version, README, citation, tags."""

from __future__ import annotations

import json
import re
from pathlib import Path

import tensorflow_datasets as tfds

from cxr_tfds.builder import RadiographConfig
from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder


def test_only_224_is_listed() -> None:
    assert [config.name for config in Builder.BUILDER_CONFIGS] == ["224"]
    assert list(Builder.builder_configs) == ["224"]


def test_the_version_has_the_newest_release_notes() -> None:
    newest = max(Builder.RELEASE_NOTES, key=lambda version: tuple(map(int, version.split("."))))
    assert str(Builder.VERSION) == newest


def test_readme_citation_and_tags_are_found() -> None:
    metadata = Builder.get_metadata()
    assert "Kermany" in metadata.description
    assert "10.1016/j.cell.2018.02.010" in metadata.citation
    assert metadata.tags
    assert set(metadata.tags) <= set(tfds.core.dataset_metadata.valid_tags())


def test_the_configs_of_the_readme_are_accepted() -> None:
    text = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    options = re.findall(r"--config '(\{.*?\})'", text)
    assert len(options) == 5
    for option in options:
        RadiographConfig(**json.loads(option))
