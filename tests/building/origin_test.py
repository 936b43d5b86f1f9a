"""A built dataset states where its images come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.sources import build, draw_image, draw_source

from cxr_tfds.builders.chest_xray_pneumonia import chest_xray_pneumonia_dataset_builder as kaggle
from cxr_tfds.builders.xray_folder import xray_folder_dataset_builder as own
from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.sources.origin import NOT_DESCRIBED

README = "Chests of two wards.\n\nLicence: CC0\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with a README. Read-only."""
    folder = tmp_path_factory.mktemp("own")
    for number in range(20):
        for name in ("Normal", "TB"):
            draw_image(folder / name / f"{name}-{number}.png")
    (folder / "README.md").write_text(README, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"description": "Chests of two wards.", "licence": "CC0"}),
        (
            {"licence": "mine", "population": "adults", "description": "Chests."},
            {"description": "Chests.", "licence": "mine", "population": "adults"},
        ),
    ],
)
def test_settings_override_the_readme(
    settings: dict[str, Any], expected: dict[str, str], source: Path, tmp_path: Path
) -> None:
    build(own.Builder, source, tmp_path, **settings)
    origin = open_dataset("xray_folder/32", tmp_path).origin
    assert origin == dict.fromkeys(origin, NOT_DESCRIBED) | expected | {"drawn": False}


def test_refuses_a_licence_that_is_not_text(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="licence=4; expected text"):
        build(own.Builder, source, tmp_path, licence=4)


def test_phantoms_are_known_as_drawn(built: Path) -> None:
    origin = open_dataset("chest_xray_pneumonia/64", built).origin
    assert origin["drawn"] is True
    assert origin["description"].startswith("Phantoms: chest radiographs drawn by cxr-tfds")
    assert origin["population"] == "none; no patient was X-rayed"


def test_a_published_dataset_has_the_origin_of_its_page(tmp_path: Path) -> None:
    source = draw_source(tmp_path / "source")
    (source / "README.md").write_text(README, encoding="utf-8")
    build(kaggle.Builder, source, tmp_path / "data")
    origin = open_dataset("chest_xray_pneumonia/32", tmp_path / "data").origin
    assert origin["description"].startswith("Frontal chest radiographs of children")
    assert (origin["licence"], origin["drawn"]) == ("CC BY 4.0", False)
