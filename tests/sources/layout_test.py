"""Layouts that are found, and sources that are refused."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.kaggle_names import read_kaggle_names

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.imaging.pixels import SUFFIXES
from cxr_tfds.sources import is_junk, scan_splits

CLASSES = ("NORMAL", "PNEUMONIA")
IDS = [
    "test/NORMAL/n3.jpeg",
    "test/PNEUMONIA/p3.jpeg",
    "train/NORMAL/n1.jpeg",
    "train/PNEUMONIA/p1.jpeg",
    "validation/NORMAL/n2.jpeg",
    "validation/PNEUMONIA/p2.jpeg",
]


def draw(
    root: Path,
    *,
    splits: Sequence[str] = ("train", "val", "test"),
    classes: Sequence[str] = CLASSES,
) -> Path:
    """One file for each split and class; nothing here is decoded."""
    for number, split in enumerate(splits, start=1):
        for class_name in classes:
            folder = root / split / class_name
            folder.mkdir(parents=True)
            (folder / f"{class_name[0].lower()}{number}.jpeg").write_bytes(b"image")
    return root


def ids(folder: Path) -> list[str]:
    return [file.image_id for file in scan_splits(folder, "chest_xray", CLASSES).images]


def test_describes_an_image(tmp_path: Path) -> None:
    draw(tmp_path)
    file = scan_splits(tmp_path, "chest_xray", CLASSES).images[-1]
    assert file[:6] == (
        tmp_path / "val/PNEUMONIA/p2.jpeg",
        "validation",
        "PNEUMONIA",
        "validation/PNEUMONIA/p2.jpeg",
        None,
        "",
    )


@pytest.mark.parametrize("place", ["", "chest_xray", "chest_xray/chest_xray"])
def test_finds_the_layout_up_to_three_levels_down(place: str, tmp_path: Path) -> None:
    draw(tmp_path / place)
    assert ids(tmp_path) == IDS


def test_accepts_a_path_as_text(tmp_path: Path) -> None:
    draw(tmp_path)
    assert len(scan_splits(str(tmp_path), "chest_xray", CLASSES).images) == 6  # type: ignore[arg-type]


def test_skips_the_nested_copy_of_the_kaggle_zip(tmp_path: Path) -> None:
    draw(tmp_path / "chest_xray")
    draw(tmp_path / "chest_xray" / "chest_xray")
    draw(tmp_path / "chest_xray" / "__MACOSX")
    files = scan_splits(tmp_path, "chest_xray", CLASSES).images
    assert [file.image_id for file in files] == IDS
    assert not any("chest_xray/chest_xray" in file.path.as_posix() for file in files)


@pytest.mark.parametrize(
    "splits",
    [
        ("train", "val", "test"),
        ("TRAIN", "Val", "Test"),
        ("training", "valid", "testing"),
        ("Train", "VALIDATION", "TEST"),
    ],
)
@pytest.mark.parametrize("classes", [CLASSES, ("normal", "pneumonia"), ("Normal", "Pneumonia")])
def test_ids_do_not_depend_on_folder_spelling(
    splits: Sequence[str], classes: Sequence[str], tmp_path: Path
) -> None:
    draw(tmp_path, splits=splits, classes=classes)
    assert ids(tmp_path) == IDS


def test_val_and_test_are_optional(tmp_path: Path) -> None:
    draw(tmp_path, splits=("train",))
    assert ids(tmp_path) == ["train/NORMAL/n1.jpeg", "train/PNEUMONIA/p1.jpeg"]


JUNK = ["._n1.jpeg", ".DS_Store", "Thumbs.db", "THUMBS.DB", "desktop.ini", ".hidden.jpeg"]


def test_skips_junk(tmp_path: Path) -> None:
    draw(tmp_path)
    for folder in (tmp_path, tmp_path / "train", tmp_path / "train/NORMAL"):
        for name in JUNK:
            (folder / name).write_bytes(b"\0\5\x16\7")
        (folder / "__MACOSX").mkdir()
        (folder / ".ipynb_checkpoints").mkdir()
    assert ids(tmp_path) == IDS


@pytest.mark.parametrize(
    ("name", "junk"),
    [*((name, True) for name in JUNK), ("__MACOSX", True), ("n1.jpeg", False), ("_n1.jpeg", False)],
)
def test_is_junk(name: str, junk: bool) -> None:
    assert is_junk(name) is junk


def test_warns_of_folders_next_to_the_splits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    draw(tmp_path)
    draw(tmp_path / "copy")
    (tmp_path / "README.txt").write_text("read me", encoding="utf-8")
    (tmp_path / "train" / "labels.csv").write_text("a,b", encoding="utf-8")
    assert ids(tmp_path) == IDS
    assert not caplog.records
    draw(tmp_path / "holdout", splits=(".",))
    (tmp_path / "a\nb.PNG").touch()
    assert ids(tmp_path) == IDS
    assert caplog.messages == [f"Ignored next to the splits of {tmp_path}: a\\nb.PNG, holdout."]


def test_lists_files_of_any_name(tmp_path: Path) -> None:
    draw(tmp_path)
    for name in ("ä ö%20 (1).JPG", "noextension", "x.dcm", "new\nline.png"):
        (tmp_path / "train/NORMAL" / name).write_bytes(b"")
    assert "train/NORMAL/ä ö%20 (1).JPG" in ids(tmp_path)
    assert len(ids(tmp_path)) == 10


def test_sorts_by_id(tmp_path: Path) -> None:
    draw(tmp_path)
    for name in ("b.png", "a.png", "C.png"):
        (tmp_path / "train/NORMAL" / name).write_bytes(b"")
    assert ids(tmp_path) == sorted(ids(tmp_path))


LAYOUT = """\
Expected layout:
  chest_xray/train/NORMAL/…  chest_xray/train/PNEUMONIA/…
  and the same in val/ and test/, both optional"""


def test_reports_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingData) as caught:
        ids(tmp_path / "nowhere")
    assert (
        str(caught.value)
        == f"No radiographs in {tmp_path / 'nowhere'}\nIt does not exist.\n{LAYOUT}"
    )


def test_refuses_a_file_that_is_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"see ward 3")
    with pytest.raises(
        MissingData,
        match=r"No radiographs in .*notes\.txt\nThe file is not an archive .*\nExpected",
    ):
        ids(tmp_path / "notes.txt")


def test_reports_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="Found there: nothing\nExpected layout"):
        ids(tmp_path)


@pytest.mark.parametrize("found", ["test", "holdout"])
def test_reports_a_missing_train_split(found: str, tmp_path: Path) -> None:
    draw(tmp_path, splits=(found,))
    with pytest.raises(MissingData, match=f"Found there: {found}/\n"):
        ids(tmp_path)


def test_shortens_a_long_listing(tmp_path: Path) -> None:
    for number in range(14):
        (tmp_path / f"{number:02}").mkdir()
    with pytest.raises(MissingData, match=r"Found there: 00/, .*, 09/, and 4 more\n"):
        ids(tmp_path)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_refuses_a_missing_class(split: str, tmp_path: Path) -> None:
    draw(tmp_path)
    (tmp_path / split / "NORMAL" / os.listdir(tmp_path / split / "NORMAL")[0]).unlink()  # noqa: PTH208
    (tmp_path / split / "NORMAL").rmdir()
    with pytest.raises(
        InputError, match=rf"{split} has no folder NORMAL\.\nFound there: PNEUMONIA/\nExpected"
    ):
        ids(tmp_path)


def test_refuses_an_empty_second_validation_folder(tmp_path: Path) -> None:
    draw(tmp_path)
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra").rename(tmp_path / "validation")
    with pytest.raises(InputError, match="both mean 'validation'"):
        ids(tmp_path)


def test_refuses_a_class_with_only_junk(tmp_path: Path) -> None:
    draw(tmp_path)
    (tmp_path / "test/NORMAL/n3.jpeg").rename(tmp_path / "test/NORMAL/._n3.jpeg")
    with pytest.raises(InputError, match=r"test/NORMAL contains no images\.\nExpected layout"):
        ids(tmp_path)


def test_refuses_two_folders_for_one_split(tmp_path: Path) -> None:
    draw(tmp_path, splits=("train", "val", "valid"))
    with pytest.raises(
        InputError, match=r"val and .*valid both mean 'validation'\. Merge or remove one"
    ):
        ids(tmp_path)


def test_refuses_two_folders_for_one_class(tmp_path: Path) -> None:
    draw(tmp_path)
    try:
        (tmp_path / "train/normal").mkdir()
    except FileExistsError:
        pytest.skip("the file system ignores case")
    with pytest.raises(InputError, match="both mean 'NORMAL'"):
        ids(tmp_path)


def test_refuses_an_unknown_class(tmp_path: Path) -> None:
    draw(tmp_path, classes=(*CLASSES, "COVID"))
    with pytest.raises(
        InputError,
        match=r"COVID is not one of the classes NORMAL, PNEUMONIA\. Rename or remove it",
    ):
        ids(tmp_path)


def test_refuses_a_folder_among_images(tmp_path: Path) -> None:
    draw(tmp_path)
    (tmp_path / "train/NORMAL/more.jpeg").mkdir()
    with pytest.raises(
        InputError, match=r"more\.jpeg is a folder among images\. Move its images up"
    ):
        ids(tmp_path)


@pytest.mark.parametrize("suffix", [*sorted(SUFFIXES), ".JPG"])
def test_refuses_an_image_outside_the_class_folders(suffix: str, tmp_path: Path) -> None:
    draw(tmp_path)
    (tmp_path / "train" / f"lost{suffix}").write_bytes(b"")
    with pytest.raises(
        InputError,
        match=rf"train/lost\{suffix} is outside the class folders\. Move it into one",
    ):
        ids(tmp_path)


def test_accepts_other_spellings_of_a_class(tmp_path: Path) -> None:
    draw(tmp_path, classes=("normal", "Bacterial"))
    files = scan_splits(
        tmp_path, "chest_xray", CLASSES, spellings={"bacterial": "PNEUMONIA"}
    ).images
    assert {file.image_id for file in files if file.label == "PNEUMONIA"} == {
        f"{split}/PNEUMONIA/b{n}.jpeg"
        for n, split in enumerate(("train", "validation", "test"), start=1)
    }


def test_refuses_two_sources(tmp_path: Path) -> None:
    draw(tmp_path / "first")
    draw(tmp_path / "second")
    with pytest.raises(
        InputError, match=r"contains 2 sources:\n  .*first\n  .*second\nGive the path of one"
    ):
        ids(tmp_path)
    assert ids(tmp_path / "first") == IDS


def test_prefers_the_folder_with_all_classes(tmp_path: Path) -> None:
    """TFDS's default manual_dir holds several datasets."""
    draw(tmp_path, classes=("Normal", "Opacity"))
    draw(tmp_path / "chest_xray")
    assert ids(tmp_path) == IDS


@pytest.mark.parametrize(
    ("place", "what"),
    [("train/NORMAL/extra.jpeg", "lacks it"), ("train/NORMAL/n1.jpeg", "differs")],
)
def test_refuses_a_copy_that_differs(place: str, what: str, tmp_path: Path) -> None:
    draw(tmp_path / "chest_xray")
    copy = draw(tmp_path / "chest_xray" / "chest_xray")
    (copy / place).write_bytes(b"another image")
    with pytest.raises(
        InputError,
        match=rf"looks like a copy of .*, but 1 of its images .*\n  .*{place}\nRemove one",
    ):
        ids(tmp_path)


def test_accepts_an_incomplete_copy(tmp_path: Path) -> None:
    draw(tmp_path / "chest_xray")
    draw(tmp_path / "chest_xray" / "chest_xray", splits=("train",))
    assert ids(tmp_path) == IDS


def test_scans_the_kaggle_layout(tmp_path: Path) -> None:
    names = read_kaggle_names()
    for image in names:
        path = tmp_path / "chest_xray" / image.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = scan_splits(tmp_path, "chest_xray", CLASSES).images
    assert {image.image_id for image in found} == {image.image_id for image in names}
    assert Counter((image.split, image.label) for image in found) == {
        ("test", "NORMAL"): 234,
        ("test", "PNEUMONIA"): 390,
        ("train", "NORMAL"): 1107,
        ("train", "PNEUMONIA"): 3485,
        ("validation", "NORMAL"): 8,
        ("validation", "PNEUMONIA"): 8,
    }
