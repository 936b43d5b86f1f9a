"""`build_source`: from a folder to a dataset, without a builder's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.sources import draw_image, published

from cxr_tfds.building.build import Built, build_source, format_built, name_settings
from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import open_dataset


def draw(folder: Path, classes: tuple[str, ...] = ("Normal", "TB"), count: int = 12) -> Path:
    for name in classes:
        for number in range(count):
            draw_image(folder / name / f"{name}-{number}.png")
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders. Read-only."""
    return draw(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Read-only."""
    return build_source(source, tmp_path_factory.mktemp("data"), settings={"size": 32})


def get_data_dir(built: Built) -> Path:
    return built.folder.parents[2]


def test_builds_a_folder(source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    calls: list[tuple[int, int]] = []
    found: list[Any] = []
    built = build_source(
        source,
        tmp_path / "data",
        settings={"size": 32, "negative": "TB"},
        announce=found.append,
        progress=lambda read, total: calls.append((read, total)),
    )
    assert built.name == "xray_folder/32-negative-TB"
    assert built.is_new
    assert found[0].reason == built.reason == "class folders: TB, Normal"
    assert calls == [(read, 24) for read in range(1, 25)]
    assert open_dataset(built.name, tmp_path / "data").labels == ("TB", "Normal")
    assert capfd.readouterr().out == ""


def test_the_same_source_is_already_built(source: Path, built: Built) -> None:
    again = build_source(source, get_data_dir(built), settings={"size": 32})
    assert not again.is_new
    assert again[:3] == built[:3]


def test_another_source_is_refused(built: Built, tmp_path: Path) -> None:
    other = draw(tmp_path / "other", count=14)
    with pytest.raises(InputError, match=r"was built from another source") as raised:
        build_source(other, get_data_dir(built), settings={"size": 32})
    message = str(raised.value)
    assert "Built: 24 images (train Normal 12, TB 12)" in message
    assert f"{other}: 28 images (train Normal 14, TB 14)" in message
    assert f"0 image ids of the dataset are not in {other}, 4 of {other} are not" in message
    renamed = build_source(other, get_data_dir(built), settings={"size": 32, "name": "32-other"})
    assert renamed.name == "xray_folder/32-other"


def test_changed_files_are_another_source(source: Path, built: Built, tmp_path: Path) -> None:
    other = draw(tmp_path / "other")
    draw_image(other / "TB" / "TB-0.png", size=(41, 30))
    with pytest.raises(InputError, match="ids are the same, but the files or the labels"):
        build_source(other, get_data_dir(built), settings={"size": 32})


def test_overwrites_on_request(source: Path, tmp_path: Path) -> None:
    other = draw(tmp_path / "other", count=14)
    settings = {"size": 32}
    build_source(source, tmp_path / "data", settings=settings)
    built = build_source(other, tmp_path / "data", settings=settings, overwrite=True)
    assert built.is_new
    assert sum(open_dataset(built.name, tmp_path / "data").sizes.values()) == 28


def test_another_licence_is_refused(built: Built, source: Path, tmp_path: Path) -> None:
    settings = {"name": "32", "size": 32, "licence": "CC0"}
    with pytest.raises(InputError, match="was built with licence='not described'"):
        build_source(source, get_data_dir(built), settings=settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sise": 32}, "Unknown config setting sise; expected .* Did you mean 'size'"),
        ({"size": "32"}, "size='32'; expected a whole number"),
    ],
)
def test_refuses_wrong_settings(
    settings: dict[str, Any], message: str, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        build_source(source, tmp_path, settings=settings)
    assert not published(tmp_path)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "224"),
        ({"size": 320, "channels": 3, "fit": "pad", "split": "source"}, "320-rgb-pad-source"),
        ({"size": None}, "original"),
        ({"negative": "A"}, "224-negative-A"),
        ({"split": "fold:0/5"}, "224-split-fold0of5"),
        ({"negative": "source"}, "224-negative-0eead4"),  # `source` would name another setting
        ({"classes": {"A": ["b"]}}, "224-classes-"),
        ({"licence": "CC0"}, "224-described"),
        ({"exclude": ["*"], "negative": "A" * 20, "patient": "B" * 20}, "224-"),
    ],
)
def test_names_configs_after_their_settings(settings: dict[str, Any], name: str) -> None:
    assert name_settings(settings).startswith(name)
    assert len(name_settings(settings)) <= 60


def test_the_summary_ends_with_the_next_command(built: Built) -> None:
    lines = format_built(built, get_data_dir(built)).splitlines()
    assert lines[0].split() == ["split", "images", "Normal", "TB"]
    assert "The source has no test split: 20% of each class were cut as test." in lines
    assert lines[-1].startswith("  cxr-train --dataset xray_folder/32 --data-dir ")
    assert len(lines) <= 12
