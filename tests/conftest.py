"""Drawn radiographs, a dataset built of them and the wheel, once per test run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
_SOURCES = ("cxr_tfds", "builders", "export", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of chest_xray/ with 60 train, 16 val and 40 test images. Read-only."""
    from cxr_tfds.phantom.dataset import images_per_split, write_dataset

    out = tmp_path_factory.mktemp("source") / "phantom"
    write_dataset(out, images=images_per_split(60, 40), seed=1)
    return out


@pytest.fixture(scope="session")
def built(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data_dir of chest_xray_pneumonia/64: `phantom` at 64 x 64. Read-only."""
    from helpers.sources import build

    from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder

    data_dir = tmp_path_factory.mktemp("data_dir")
    build(Builder, phantom, data_dir, name="64", size=64)
    return data_dir


@pytest.fixture(scope="session")
def findings_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn images with a table of three findings, some of them uncertain. Read-only."""
    from helpers.findings import draw_findings_source

    return draw_findings_source(tmp_path_factory.mktemp("findings") / "source")


@pytest.fixture(scope="session")
def findings_data(findings_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data_dir of xray_table/64: `findings_source` at 64 x 64. Read-only."""
    from helpers.findings import SETTINGS
    from helpers.sources import build

    from cxr_tfds.builders.xray_table.xray_table_dataset_builder import Builder

    data_dir = tmp_path_factory.mktemp("findings_data")
    build(Builder, findings_source, data_dir, name="64", size=64, **SETTINGS)
    return data_dir


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a model with batch norm and dropout that is built and traced in no time."""
    from cxr_tfds.models import MODELS, ModelEntry

    def build(shape: tuple[int, int, int], outputs: int) -> Any:
        from keras import Input, Model, layers

        pixels = Input(shape, name="image")
        x = layers.Conv2D(4, 5, strides=4, name="first")(layers.Rescaling(1 / 255)(pixels))
        x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
        x = layers.Conv2D(8, 3, strides=4, activation="relu", name="second")(x)
        x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
        logits = layers.Dense(outputs, dtype="float32", name="logits")(x)
        return Model(pixels, logits, name="tiny")

    monkeypatch.setitem(
        MODELS, "tiny", ModelEntry(build, "drawn for tests", 32, None, (64, 64, 1), 0, 0)
    )
    return "tiny"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing left over from an earlier build gets in."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in _SOURCES:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(folder)]
    done = subprocess.run(build, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "dist").glob("*.whl")
    return path
