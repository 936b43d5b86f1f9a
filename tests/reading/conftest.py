"""A dataset with several shards per split, built once for the tests of reading."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
from cxr_tfds.building.config import RadiographConfig
from cxr_tfds.reading.datasets import BuiltDataset, open_dataset

NAME = "chest_xray_pneumonia/64"


@pytest.fixture(scope="session")
def sharded_dir(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom in four shards per split. Read only."""
    data_dir = tmp_path_factory.mktemp("sharded")
    builder = Builder(data_dir=data_dir, config=RadiographConfig(name="64", size=64))
    config = tfds.download.DownloadConfig(manual_dir=phantom, num_shards=4)
    builder.download_and_prepare(download_config=config)
    return data_dir


@pytest.fixture(scope="session")
def dataset(sharded_dir: Path) -> BuiltDataset:
    opened = open_dataset(NAME, sharded_dir)
    assert len(opened.shards["train"]) == 4
    return opened


@pytest.fixture
def own(sharded_dir: Path, tmp_path: Path) -> BuiltDataset:
    """A copy that a test may corrupt, opened before."""
    shutil.copytree(sharded_dir, tmp_path / "data")
    return open_dataset(NAME, tmp_path / "data")
