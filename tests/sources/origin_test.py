"""Origin of a source: what a README next to the images states, and what it does not."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from helpers.sources import draw_image

from cxr_tfds.sources import ReaderSettings, read_source
from cxr_tfds.sources.origin import NOT_DESCRIBED, describe_origin, parse_readme, read_origin

FRONT_MATTER = """---
title: Mine
license: CC0
population: adults of one hospital
---
# My images

Chest radiographs of two
wards.

More about them.
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            FRONT_MATTER,
            {
                "licence": "CC0",
                "population": "adults of one hospital",
                "description": "Chest radiographs of two wards.",
            },
        ),
        (
            "Licence: CC BY 4.0\nDescription: mine\n",
            {"licence": "CC BY 4.0", "description": "mine"},
        ),
        (
            "- **Licence**: CC BY,\n  see below.\n- **Images**: 3\n",
            {"licence": "CC BY, see below"},
        ),
        ("LICENSE:\r\nPopulation : all\r\n", {"population": "all"}),
        ("# Title\n\nMine: chests.\n---\nNot: this.", {"description": "Mine: chests."}),
        ("# Only a title\n", {}),
        ("", {}),
    ],
)
def test_parses_a_readme(text: str, expected: dict[str, str]) -> None:
    assert parse_readme(text) == expected | {"drawn": False}


def test_shortens_a_long_description() -> None:
    text = parse_readme("word " * 1000)["description"]
    assert len(text) < 610
    assert text.endswith("word …")


def test_an_origin_has_all_keys() -> None:
    assert describe_origin({"licence": "CC0"}) == {
        "description": NOT_DESCRIBED,
        "licence": "CC0",
        "population": NOT_DESCRIBED,
        "drawn": False,
    }


def draw(folder: Path) -> Path:
    for split in ("train", "test"):
        for name in ("Normal", "TB"):
            draw_image(folder / "set" / split / name / "a.png")
    return folder


def find_licence(source: Path) -> str | None:
    images = read_source(source, ReaderSettings()).images
    return read_origin(source, images).get("licence")


@pytest.mark.parametrize("name", ["README.md", "readme.txt", "set/README.md.txt", "set/ReadMe"])
def test_finds_the_readme(name: str, tmp_path: Path) -> None:
    source = draw(tmp_path)
    (source / name).write_text("Licence: CC0\n", encoding="utf-8")
    assert find_licence(source) == "CC0"


@pytest.mark.parametrize("name", ["set/train/README.md", "set/train/Normal/README.md", "NOTES.md"])
def test_a_readme_of_some_images_does_not_count(name: str, tmp_path: Path) -> None:
    source = draw(tmp_path)
    (source / name).write_text("Licence: CC0\n", encoding="utf-8")
    assert find_licence(source) is None


def test_finds_the_readme_in_a_zip(tmp_path: Path) -> None:
    source = draw(tmp_path / "source")
    (source / "set" / "README.md").write_text("Licence: CC0\n", encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in source.rglob("*.*"):
            archive.write(path, path.relative_to(source).as_posix())
    assert find_licence(tmp_path / "images.zip") == "CC0"
    (tmp_path / "folder").mkdir()
    (tmp_path / "images.zip").rename(tmp_path / "folder" / "images.zip")
    assert find_licence(tmp_path / "folder") == "CC0"
