"""The files that a table means, and paths that are refused."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.sources import draw_image
from helpers.tables import config_of, draw, labels, read, table

from cxr_tfds.errors import InputError
from cxr_tfds.sources.tables.files import SourceFile, SourceFiles, clean_name
from cxr_tfds.sources.walking import find_problem_of


@pytest.mark.parametrize(
    ("cell", "folder", "expected"),
    [
        ("a.png", "", ["x/a.png"]),
        ("a", "", ["x/a.png"]),
        ("x/a.png", "", ["x/a.png"]),
        ("x/a", "", ["x/a.png"]),
        (".\\x\\a.png", "", ["x/a.png"]),
        ("a.dcm", "", ["x/a.png"]),  # converted
        ("A.PNG", "", ["x/a.png"]),
        ("b.png", "", ["x/b.png", "y/b.png"]),
        ("y/b.png", "", ["y/b.png"]),
        ("b.png", "y", ["y/b.png"]),  # next to the table
        ("y/a.png", "", []),  # not the a.png of another folder
        ("c.png", "", ["x/c.png"]),  # case decides
        ("c.PNG", "", ["x/c.png"]),
        ("D.png", "", ["x/d.png"]),
        ("D", "", ["x/d.png", "y/d.jpg"]),
        ("1.2.840.1", "", ["y/1.2.840.1"]),
        ("1.2.840.2", "", ["y/1.2.840.2.dcm"]),
        ("p1/view.png", "", ["z/p1/view.png"]),
        ("p3/view.png", "", []),
        ("e\u0301.png", "", ["y/\u00e9.png"]),
        ("f.png", "", []),
    ],
)
def test_finds_images(cell: str, folder: str, expected: Sequence[str], tmp_path: Path) -> None:
    names = ["x/a.png", "x/b.png", "y/b.png", "x/c.png", "y/C.png", "y/1.2.840.1", "y/\u00e9.png"]
    names += ["y/1.2.840.2.dcm", "z/p1/view.png", "z/p2/view.png", "x/d.png", "y/d.jpg"]
    draw(tmp_path, *names)
    files = SourceFiles([SourceFile(name, tmp_path / name) for name in names])
    found = files.find(clean_name(cell, "t"), folder)
    assert [files.files[i].inner_path for i in found] == sorted(expected)


def test_ignores_unknown_first_folders(tmp_path: Path) -> None:
    source = draw(tmp_path, "x/a.png", "b.png", "p1/view.png")
    table(source, "path,label", "Set-v1/x/a.png,Normal", "old/folder/b.png,Mass", "x/b.png,Mass")
    table(source, "p1/view.png", "old/folder/b.png", "Set-v1/x/a.png", name="list.txt")
    with pytest.raises(InputError, match=r"1 rows whose image does not exist:\n  x/b.png \(t.csv"):
        read(source)
    listing = read(source, on_missing="leave_out", split_lists={"test": "list.txt"})
    assert labels(listing) == {"test/b.png": "Mass", "test/x/a.png": "Normal"}


@pytest.mark.parametrize("other", ["p3/view.png", "p1/view.png"])
def test_ends_of_paths_that_several_rows_have_identify_nothing(tmp_path: Path, other: str) -> None:
    source = draw(tmp_path, "p1/view.png", "b.png", "c.png")
    table(source, "path,label", "p2/view.png,Normal", f"{other},Mass", "b.png,Mass", "c.png,Normal")
    listing = read(source, on_missing="leave_out")
    assert labels(listing).get("p1/view.png") == ("Mass" if other == "p1/view.png" else None)
    missing = listing.left_out["rows whose image does not exist"]
    assert len(missing) == (1 if other == "p1/view.png" else 2)


@pytest.mark.parametrize("cell", ["../a.png", "x/../../a.png", "/etc/a.png", "C:\\a.png", "\\a"])
def test_refuses_paths_out_of_the_source(tmp_path: Path, cell: str) -> None:
    source = table(draw(tmp_path / "s", "a.png", "b.png"), "image,label", "b.png,x", f"{cell},y")
    draw(tmp_path, "a.png")
    with pytest.raises(InputError, match=r"t.csv, line 3: .* leads out of the source. Expected"):
        read(source)


def test_refuses_links_out_of_the_source(tmp_path: Path) -> None:
    rows = ("image,label", "a.png,Normal", "b.png,Mass", "c.png,Normal")
    source = table(draw(tmp_path / "s", "b.png", "c.png"), *rows)
    draw(tmp_path, "secret/a.png")
    (source / "a.png").symlink_to(tmp_path / "secret" / "a.png")
    outside = "a link out of the source"
    assert str(find_problem_of(read(source).images[0].path)).startswith(outside)
    (source / "a.png").unlink()
    (source / "folder").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match=rf"a\.png.*\nNot readable:\n  folder/: {outside}"):
        read(source)
    listing = read(source, on_missing="leave_out", classes=["Normal", "Mass"])
    assert [names for reason, names in listing.left_out.items() if reason.startswith(outside)] == [
        ["folder/"]
    ]


def test_two_images_that_match_a_row_are_an_error(tmp_path: Path) -> None:
    source = draw(tmp_path, "x/a.png", "y/a.png", "x/b.png")
    table(source, "image,label", "a.png,Normal", "b.png,Mass")
    with pytest.raises(InputError, match=r"t.csv, line 2: x/a.png, y/a.png") as error:
        read(source)
    assert config_of(error) == {"table": "t.csv", "exclude": ["FOLDER/*"]}
    listing = read(source, exclude=["y/*"])
    assert labels(listing) == {"x/a.png": "Normal", "x/b.png": "Mass"}
    assert listing.left_out["by the settings include and exclude"] == ["y/a.png"]


def test_masks_are_not_images(tmp_path: Path) -> None:
    from PIL import Image

    source = table(tmp_path, "image,label", "a,Normal", "b,Mass")
    for name in ("a", "b"):
        draw_image(source / "images" / f"{name}.png")
        draw_image(source / "masks" / f"{name}.png")
        (source / "other").mkdir(exist_ok=True)
        Image.new("1", (40, 30)).save(source / "other" / f"{name}.png")
    listing = read(source)
    assert labels(listing) == {"images/a.png": "Normal", "images/b.png": "Mass"}
    assert listing.left_out["masks and annotations"] == ["masks/a.png", "masks/b.png"]
    assert listing.left_out["images without a row"] == ["other/a.png", "other/b.png"]


def test_reads_zips_and_prefers_their_extracted_copy(tmp_path: Path) -> None:
    source = table(tmp_path / "s", "image,label", "a.png,Normal", "b.png,Mass", "c.png,Mass")
    draw(source, "images/a.png")
    with zipfile.ZipFile(source / "images.zip", "w") as file:
        file.writestr("a.png", "images/a.png")
        file.writestr("b.png", "b")
        file.writestr("c.png", "c")
    images = read(source).images
    assert [image.image_id for image in images] == ["images/a.png", "images/b.png", "images/c.png"]
    assert [isinstance(image.path, Path) for image in images] == [True, False, False]
    # A complete source in one zip, which holds all files twice, gives the same ids.
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        for folder in ("", "again/"):
            for name in ("a", "b", "c"):
                file.writestr(f"{folder}images/{name}.png", name)
        file.writestr("t.csv", "image,label\nimages/a.png,Normal\nb,Mass\nimages/c.png,Mass\n")
    listing = read(tmp_path / "all.zip", exclude=["again/*"])
    assert labels(listing) == labels(read(source))
