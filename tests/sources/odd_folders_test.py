"""Folders as clumsy and hostile users have them: read as meant, or refused with what to do."""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxr_tfds.errors import InputError
from cxr_tfds.sources import Listing, ReaderSettings, read_source
from cxr_tfds.sources.settings import MOST_CLASSES
from cxr_tfds.sources.walking import find_problem_of

ACCENT = "Pneumonía"
NFC, NFD = (unicodedata.normalize(form, ACCENT) for form in ("NFC", "NFD"))
TWO = {"Normal": 2, "TB": 2}


def read(source: Path, **settings: Any) -> Listing:
    return read_source(source, ReaderSettings(**settings))


def draw(root: Path, folders: dict[str, int]) -> Path:
    """Writes a number of files into each folder, which nothing decodes; 0 makes an empty folder."""
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            path = root / folder / f"{Path(folder).name[:20]}-{number}.png"
            path.write_bytes(f"{folder}{number}".encode())
    return root


def count(listing: Listing) -> dict[tuple[str, str], int]:
    return dict(Counter((image.split, image.label) for image in listing.images))


Read = tuple[dict[str, int], dict[str, Any], tuple[str, ...], dict[tuple[str, str], int], list[str]]
# Folders, settings, classes, images by split and class, and what is left out.
READ: dict[str, Read] = {
    "accents stored in two ways": (
        {"train/Normal": 2, f"train/{NFC}": 3, "test/Normal": 1, f"test/{NFD}": 1},
        {},
        ("Normal", NFC),
        {("train", "Normal"): 2, ("train", NFC): 3, ("test", "Normal"): 1, ("test", NFC): 1},
        [],
    ),
    "given class with another accent and spaces": (
        {"Normal": 1, f"{NFD}  bacteriana": 2},
        {"classes": ["normal", f"{NFC} Bacteriana"]},
        ("normal", f"{NFC} Bacteriana"),
        {("train", "normal"): 1, ("train", f"{NFC} Bacteriana"): 2},
        [],
    ),
    "upper-case splits": (
        {"TRAIN/Normal": 1, "TRAIN/TB": 1, "Test/NORMAL": 1, "Test/tb": 1},
        {},
        ("Normal", "TB"),
        {(split, name): 1 for split in ("train", "test") for name in ("Normal", "TB")},
        [],
    ),
    "val without images": (
        {"train/Normal": 1, "train/TB": 1, "val/Normal": 0, "val/TB": 0},
        {},
        ("Normal", "TB"),
        {("train", "Normal"): 1, ("train", "TB"): 1},
        ["splits without images"],
    ),
    "empty val": (
        {"train/Normal": 1, "train/TB": 1, "val": 0},
        {},
        ("Normal", "TB"),
        {("train", "Normal"): 1, ("train", "TB"): 1},
        ["splits without images"],
    ),
    "test without labels": (
        {"train/Normal": 1, "train/TB": 1, "test/images": 2},
        {},
        ("Normal", "TB"),
        {("train", "Normal"): 1, ("train", "TB"): 1},
        ["images of a split without class folders"],
    ),
    "classes in themselves": (
        {"Normal/Normal": 2, "TB/TB": 2},
        {},
        ("Normal", "TB"),
        {("train", "Normal"): 2, ("train", "TB"): 2},
        [],
    ),
    "excluded folder": (
        {**TWO, "other": 2},
        {"exclude": ["other/*"]},
        ("Normal", "TB"),
        {("train", "Normal"): 2, ("train", "TB"): 2},
        ["by the settings include and exclude"],
    ),
    "included masks": (
        {"Normal/masks": 2, "TB/masks": 2},
        {"include": ["*"]},
        ("Normal", "TB"),
        {("train", "Normal"): 2, ("train", "TB"): 2},
        [],
    ),
    "mapping that does not list the folder of its own name": (
        {**TWO, "Healthy": 1, "X": 3},
        {"classes": {"Normal": ["healthy"], "TB": ["X"]}},
        ("Normal", "TB"),
        {("train", "Normal"): 1, ("train", "TB"): 3},
        ["folders that are not among the classes"],
    ),
    "negative in other case": (
        {"Ok": 1, "TB": 1},
        {"negative": "OK"},
        ("Ok", "TB"),
        {("train", "Ok"): 1, ("train", "TB"): 1},
        [],
    ),
    "folds from 1, and a test split": (
        {f"Fold {n}/{name}": 1 for n in (1, 2) for name in TWO}
        | {f"test/{name}": 1 for name in TWO},
        {},
        ("Normal", "TB"),
        {(split, name): 1 for split in ("fold:1", "fold:2", "test") for name in TWO},
        [],
    ),
    "pattern with alternatives in groups": (
        {"all/Normal": 2, "all/TB": 2},
        {"class_pattern": "^(Normal)-|^(TB)-"},
        ("Normal", "TB"),
        {("train", "Normal"): 2, ("train", "TB"): 2},
        [],
    ),
    "pattern with two groups": (
        {"all/Normal": 2, "all/TB": 2},
        {"class_pattern": "^(Normal|TB)-([0-9])"},
        ("Normal", "TB"),
        {("train", "Normal"): 2, ("train", "TB"): 2},
        [],
    ),
    "pattern without groups": (
        {"train/Normal": 2, "test/TB": 2},
        {"class_pattern": "Normal|TB"},
        ("Normal", "TB"),
        {("train", "Normal"): 2, ("test", "TB"): 2},
        [],
    ),
    "pattern and one given class in other case": (
        {"Normal": 2, "TB": 2, "tb": 1},
        {"class_pattern": "^[A-Za-z]+", "classes": ["Normal", "tb"]},
        ("Normal", "tb"),
        {("train", "Normal"): 2, ("train", "tb"): 3},
        [],
    ),
}


@pytest.mark.parametrize("name", READ)
def test_reads(name: str, tmp_path: Path) -> None:
    folders, settings, classes, counts, left_out = READ[name]
    listing = read(draw(tmp_path, folders), **settings)
    assert listing.classes == classes
    assert count(listing) == counts
    assert list(listing.left_out) == left_out


def split_in_class(root: Path) -> None:
    draw(root, {f"{name}/{split}": 1 for name in TWO for split in ("train", "test")})


def two_levels(root: Path) -> None:
    draw(root, {"Normal": 2})
    (root / "TB").mkdir()
    for number in range(3):
        pixels = np.zeros((9, 9), np.uint8)
        pixels[number:6] = 255
        for suffix in ("png", "bmp"):
            Image.fromarray(pixels).save(root / "TB" / f"{number}.{suffix}")


def with_others(root: Path, suffix: str) -> None:
    for folder in TWO:
        (root / folder).mkdir()
        for number in range(12):
            (root / folder / f"{number}.{suffix}").write_bytes(b"x")


CONFIG = r"--config '\{.*\}'"
Refused = tuple[dict[str, int] | Callable[[Path], None], dict[str, Any], str]
REFUSED: dict[str, Refused] = {
    "3,000 folders of one file": (
        {f"p{n}": 1 for n in range(3000)},
        {},
        r"p0, .* and 2990 more are not classes",
    ),
    "3,000 folders of two files": (
        {f"c{n}": 2 for n in range(3000)},
        {},
        f"are 3,000 folders; expected at most {MOST_CLASSES} classes",
    ),
    "masks only": (
        {"Normal/masks": 2, "TB/masks": 2},
        {},
        rf'left out: 4 masks and annotations\. .*{CONFIG[:-2]}.*"include": \["\*"\]',
    ),
    "two-level images only": (two_levels, {}, rf"All images of TB look like masks: .*{CONFIG}"),
    "everything excluded": (TWO, {"exclude": ["*"]}, "left out: 4 by the settings include and"),
    "a class excluded": (TWO, {"exclude": ["TB/*"]}, "left out: 2 by the settings include and"),
    "nothing included": (TWO, {"include": ["*.dcm"]}, "left out: 4 by the settings include and"),
    "pdf files": (lambda root: with_others(root, "pdf"), {}, r"Found there: Normal/, TB/\n"),
    "an empty folder": ({"x": 0}, {}, r"Found there: x/\nExpected layout"),
    "an empty class": ({"Normal": 2, "TB": 0}, {}, r"Found there: Normal/, TB/\nExpected layout"),
    "one class": ({"TB": 2}, {}, r"Found there: TB/\nExpected layout, with two or more"),
    "one class in splits": ({"train/TB": 2, "test/TB": 2}, {}, "fewer than two class folders"),
    "an empty class in val": (
        {"train/Normal": 1, "train/TB": 1, "val/Normal": 1, "val/TB": 0},
        {},
        "val/TB contains no images",
    ),
    "names that differ in spaces": (
        {**TWO, "Viral Flu": 1, "Viral  Flu": 1},
        {},
        r"Viral  Flu and .*Viral Flu differ only in spaces, or in how accents are stored\. Merge",
    ),
    "names that differ in accents": (
        {"Normal": 1, NFC: 1, NFD: 1},
        {},
        r"differ only in spaces, or in how accents are stored\. Merge them or rename",
    ),
    "a line break in a name": ({"Normal": 1, "T\nB": 1}, {}, r"T\\nB': not usable as a class name"),
    "a hidden direction mark": ({"Normal": 1, "T\u202eB": 1}, {}, r"T\\u202eB': not usable as a"),
    "splits in classes": (
        split_in_class,
        {},
        rf"Normal, TB contain splits: .*Expected train/Normal/…, test/Normal/….*{CONFIG}",
    ),
    "a missing fold": (
        {f"fold_{n}/{name}": 1 for n in (0, 2) for name in TWO},
        {},
        r"found the folds fold_0, fold_2, but not number 1\. Add the missing folds",
    ),
    "many missing folds": (
        {f"fold_{n}/{name}": 1 for n in (0, 99_999_999_999) for name in TWO},
        {},
        r"not number 1, 2, .*10, and \d+ more\.",
    ),
    "a fold and train": (
        {f"{split}/{name}": 1 for split in ("Train", "fold_1") for name in TWO},
        {},
        r"found the folds fold_1 next to Train\. Expected folds alone",
    ),
    "folds and a class": (
        {f"{n}/{name}": 1 for n in ("fold_0", "fold_1") for name in TWO} | {"other": 1},
        {},
        r"found the folds fold_0, fold_1 next to other\. .* Move the other folders away",
    ),
    "a class without folders": (
        TWO,
        {"classes": {"Normal": ["Normal"], "Flu": ["H1N1", "grippe"]}},
        r"has no folder H1N1, grippe of the class Flu\.\nFound there: Normal/, TB/",
    ),
    "classes without folders": (
        TWO,
        {"classes": {"Normal": ["a"], "Flu": ["b"]}},
        r"No folder is in the setting classes=.* such as Normal/, TB/\.",
    ),
    "a class missing in test, with quotes": (
        {"train/Normal": 1, "train/T'B": 1, "train/x": 1, "test/Normal": 1, "test/T'B": 1},
        {},
        r"""--config '\{"name": "224-mine", "classes": \["Normal", "T'"'"'B"\]\}'""",
    ),
    "a negative class that does not exist": (
        TWO,
        {"negative": "Norma"},
        "negative='Norma' is not one of the classes Normal, TB",
    ),
    "a pattern for nothing": (
        TWO,
        {"class_pattern": "_([01])[.]"},
        r"finds a class in no file name of .*\. Names: Normal/Normal-0\.png, ",
    ),
    "a pattern for the empty text": (TWO, {"class_pattern": "x*"}, "a class in no file name"),
    "a pattern and exclude": (
        TWO,
        {"class_pattern": "Normal|TB", "exclude": ["*"]},
        r"a class in no file name of .*\. Left out: 4 by the settings include and exclude\.",
    ),
    "a pattern for one class": (TWO, {"class_pattern": "Normal"}, "finds only the class 'Normal'"),
    "a pattern for everything": (
        {"Normal": 60, "TB": 60},
        {"class_pattern": ".*"},
        rf"finds 120 classes, such as .*; expected at most 100\. .*{CONFIG}",
    ),
    "a pattern that finds two cases": (
        {"Normal": 1, "TB": 2, "tb": 1},
        {"class_pattern": "^[A-Za-z]+"},
        r'finds TB, tb, which differ only in case\. .*"classes": \["Normal", "TB"\]',
    ),
    "a pattern without a given class": (
        TWO,
        {"class_pattern": "Normal|TB", "classes": {"N": ["Normal"], "T": ["Flu"]}},
        r"finds no image of the class T\. Names without a class: TB/TB-0\.png, TB/TB-1\.png\.",
    ),
    "a patient pattern for nothing": (TWO, {"patient": "^x"}, "matches no file name. Examples"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str, tmp_path: Path) -> None:
    folders, settings, message = REFUSED[name]
    folders(tmp_path) if callable(folders) else draw(tmp_path, folders)
    with pytest.raises(InputError, match=f"(?s){message}") as caught:
        read(tmp_path, **settings)
    text = str(caught.value)
    assert len(set(re.findall(r"\b(?:[pc]\d+|Normal-\d+\.png|TB-\d+\.png)", text))) <= 10
    assert text.isprintable() or all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"A": ["x"], "B": ["y", "X"]}, "classes: 'X' is in A and B. Remove it from one"),
        ({"A": [NFC], "B": [NFD]}, "is in A and B"),
        (["Normal", "normal"], "two or more that differ in more than case and spaces"),
        (["T B", "T  B"], "two or more that differ in more than case and spaces"),
        (["Normal", " TB"], "' TB' is not usable as a class name"),
        ({"Nor\nmal": ["x"], "TB": ["y"]}, r"'Nor\\nmal' is not usable as a class name"),
        ({"Normal": [], "TB": ["y"]}, "expected a list"),
    ],
)
def test_refuses_classes(classes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ReaderSettings(classes=classes)


def test_class_of_two_spellings_may_have_one_folder() -> None:
    ReaderSettings(classes={"A": ["x", "X"], "B": ["y"]})


def test_refuses_a_long_class_name(tmp_path: Path) -> None:
    table = f"image,label\n1.png,Normal\n2.png,{'x' * 300}\n"
    draw(tmp_path, {"a": 0})
    for number in (1, 2):
        (tmp_path / "a" / f"{number}.png").write_bytes(b"x")
    (tmp_path / "t.csv").write_text(table)
    with pytest.raises(InputError, match=r"^The class 'x{50}' is not usable .* up to 255"):
        read(tmp_path, table="t.csv")


def test_a_loop_by_way_of_another_folder_ends(tmp_path: Path) -> None:
    draw(tmp_path, {**TWO, "TB/deep": 1})
    (tmp_path / "Normal" / "to_tb").symlink_to("../TB/deep")
    (tmp_path / "TB" / "deep" / "to_normal").symlink_to("../../Normal")
    problems = {x.image_id: find_problem_of(x.path) for x in read(tmp_path).images}
    loops = [image_id for image_id, problem in problems.items() if problem]
    assert loops == ["Normal/to_tb/to_normal/", "TB/deep/to_normal/to_tb/"]


def test_reads_a_link_to_a_folder_twice(tmp_path: Path) -> None:
    """Two links to one folder are no loop. Their images are identical, not contradicting."""
    draw(tmp_path, {**TWO, "TB/ward": 1})
    for name in "ab":
        (tmp_path / "TB" / name).symlink_to("ward")
    assert count(read(tmp_path)) == {("train", "Normal"): 2, ("train", "TB"): 5}


def test_lists_a_link_to_itself_as_a_file(tmp_path: Path) -> None:
    """Decoding reports it with the unreadable images."""
    draw(tmp_path, TWO)
    (tmp_path / "TB" / "me").symlink_to("me")
    assert count(read(tmp_path)) == {("train", "Normal"): 2, ("train", "TB"): 3}


def test_message_names_at_most_ten_classes(tmp_path: Path) -> None:
    draw(tmp_path, {f"{split}/k{n:02}": 2 for split in ("train", "test") for n in range(30)})
    shutil.rmtree(tmp_path / "test" / "k07")
    with pytest.raises(InputError, match=r"test has no folder k07") as caught:
        read(tmp_path, negative="k00")
    before = str(caught.value).partition("--config")[0]
    expected = before.partition("Expected layout")[2]
    assert len(set(re.findall(r"k\d\d", expected))) == 10
    assert "and 20 more" in expected
