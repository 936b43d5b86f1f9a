"""The folder trees of public datasets: each is read as its owner means it, or refused with a hint.

The trees are drawn by the script of `../shared/layouts`. Without it these tests are skipped.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cxr_tfds.building.config import SourceConfig
from cxr_tfds.building.plan import plan_splits
from cxr_tfds.errors import InputError
from cxr_tfds.sources import Listing, ReaderSettings, read_source
from cxr_tfds.sources.recognition import recognize_source

pytestmark = pytest.mark.slow

LAYOUTS = Path(__file__).parents[3] / "shared" / "layouts"
TABLE = {"table": "Data_Entry_2017.csv"}
NIH_LISTS = {"split_lists": {"train": "train_val_list.txt", "test": "test_list.txt"}}


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (LAYOUTS / "make.py").is_file():
        pytest.skip("needs the layouts")
    pytest.importorskip("pydicom")
    folder = tmp_path_factory.mktemp("layouts")
    subprocess.run([sys.executable, LAYOUTS / "make.py", folder], check=True, capture_output=True)
    return folder


def read(folder: Path, **settings: Any) -> Listing:
    return read_source(folder, ReaderSettings(**settings))


def count(listing: Listing) -> dict[str, dict[str, int]]:
    """Returns split to class to number of images."""
    counts: dict[str, Counter[str]] = {}
    for image in listing.images:
        counts.setdefault(image.split, Counter())[image.label] += 1
    return {split: dict(classes) for split, classes in counts.items()}


def count_patients(listing: Listing) -> int:
    return len({image.patient_id for image in listing.images} - {""})


# Name, settings, classes with the negative first, counts, known patients, files left out.
READ: list[tuple[str, dict[str, Any], tuple[str, ...], dict[str, list[int]], int, int]] = [
    (
        "covid_radiography",
        {},
        ("Normal", "COVID", "Lung_Opacity", "Viral Pneumonia"),
        {"train": [30, 30, 30, 30]},
        0,
        120,
    ),
    ("two_masks", {}, ("Normal", "Tuberculosis"), {"train": [24, 24]}, 0, 48),
    ("top_and_masks", {}, ("Normal", "COVID"), {"train": [24, 24]}, 0, 48),
    (
        "qu_ex",
        {},
        ("Normal", "COVID-19"),
        {"train": [24, 24], "validation": [8, 8], "test": [8, 8]},
        0,
        80,
    ),
    (
        "rsna",
        {"table": "stage_2_train_labels.csv", "repeated_rows": "any"},
        ("0", "1"),
        {"train": [20, 20]},
        40,
        12,
    ),
    (
        "montgomery",
        {"class_pattern": r"_([01])[.]"},
        ("0", "1"),
        {"train": [10, 10]},
        20,
        60,
    ),
    (
        "covidx",
        {
            "table": {"train": "train.txt", "test": "test.txt"},
            "image": "2",
            "label": "3",
        },
        ("negative", "positive"),
        {"train": [20, 20], "test": [6, 6]},
        0,
        0,
    ),
    (
        "coronahack",
        {"table": "Chest_xray_Corona_Metadata.csv"},
        ("Normal", "Pnemonia"),
        {"train": [10, 10], "test": [3, 3]},
        26,
        1,
    ),
    ("kermany_flat", {}, ("NORMAL", "PNEUMONIA"), {"train": [70, 70]}, 137, 0),
    ("nih_names", {}, ("No_findings", "Pneumonia"), {"train": [40, 40]}, 20, 0),
    ("same_subdirs", {}, ("Normal", "TB"), {"train": [12, 12]}, 0, 0),
    ("dicom_class", {}, ("Normal", "TB"), {"train": [12, 12]}, 0, 0),
    (
        "kfold",
        {},
        ("NORMAL", "PNEUMONIA"),
        {"fold:0": [12, 12], "fold:1": [12, 12], "fold:2": [12, 12]},
        69,
        0,
    ),
    ("mixed16", {}, ("Normal", "COVID"), {"train": [24, 24]}, 0, 0),
    ("hot_pixel", {}, ("Normal", "COVID"), {"train": [12, 12]}, 0, 0),
    ("covid_ctset", {}, ("Normal", "COVID"), {"train": [12, 12]}, 0, 0),
    ("twice", {}, ("NORMAL", "PNEUMONIA"), {"train": [60, 60]}, 0, 0),
    ("com_dups", {}, ("NORMAL", "PNEUMONIA"), {"train": [24, 24], "test": [8, 8]}, 0, 0),
    ("junk", {}, ("NORMAL", "PNEUMONIA"), {"train": [20, 20]}, 40, 4),
    (
        "fewer_test",
        {"classes": ["NORMAL", "PNEUMONIA"]},
        ("NORMAL", "PNEUMONIA"),
        {"train": [20, 20], "validation": [6, 6], "test": [6, 6]},
        64,
        2,
    ),
    ("unlabelled_test", {}, ("NORMAL", "PNEUMONIA"), {"train": [20, 20]}, 40, 1),
    (
        "unicode",
        {},
        ("Normal", "Pneumonía bacteriana", "Viral Pneumonia", "肺炎"),
        {"train": [20, 20, 20, 20]},
        0,
        0,
    ),
    ("names_infected", {}, ("Uninfected", "Infected"), {"train": [12, 12]}, 0, 0),
    ("names_numeric", {}, ("0", "1"), {"train": [12, 12]}, 0, 0),
    (
        "names_three",
        {"negative": "Normal"},
        ("Normal", "COVID-19", "Non-COVID"),
        {"train": [12, 12, 12]},
        0,
        0,
    ),
    ("names_tb", {}, ("TB Negative", "TB Positive"), {"train": [12, 12]}, 0, 0),
]


@pytest.mark.parametrize(
    ("name", "settings", "classes", "counts", "patients", "left_out"),
    READ,
    ids=[row[0] for row in READ],
)
def test_reads_the_layout(
    name: str,
    settings: dict[str, Any],
    classes: tuple[str, ...],
    counts: dict[str, list[int]],
    patients: int,
    left_out: int,
    layouts: Path,
) -> None:
    listing = read(layouts / name, **settings)
    assert listing.classes == classes
    assert count(listing) == {
        split: dict(zip(classes, numbers, strict=True)) for split, numbers in counts.items()
    }
    assert count_patients(listing) == patients
    assert sum(map(len, listing.left_out.values())) == left_out
    assert len({image.image_id for image in listing.images}) == len(listing.images)
    assert not any(str(layouts) in image.image_id for image in listing.images)


# The layouts that another builder than xray_folder reads, and those that need an answer first.
RECOGNIZED = {
    "covid_radiography": "covid19_radiography",
    "rsna": "rsna_pneumonia",
    "montgomery": "tb_chest_xray",
    "covidx": "covidx",
    "coronahack": "xray_table",
    "nih": "nih_chest_xray14",
    "nih_flat": "nih_chest_xray14",
    "chexpert": "chexpert_small",
}
ANSWERS = {name: settings for name, settings, *_ in READ if name in ("fewer_test", "names_three")}


@pytest.mark.parametrize("name", sorted({row[0] for row in READ} | RECOGNIZED.keys()))
def test_recognizes_the_builder(name: str, layouts: Path) -> None:
    recognized = recognize_source(layouts / name, ANSWERS.get(name, {}))
    assert recognized.dataset == RECOGNIZED.get(name, "xray_folder")


@pytest.mark.parametrize("name", ["fewer_test", "names_three", "many", "copy_folder"])
def test_recognizes_nothing_without_an_answer(name: str, layouts: Path) -> None:
    with pytest.raises(InputError):
        recognize_source(layouts / name, {})


@pytest.mark.parametrize("name", ["nih", "nih_flat"])
def test_reads_findings_of_a_cell(name: str, layouts: Path) -> None:
    listing = read(layouts / name, **TABLE, **NIH_LISTS)
    assert listing.several_findings
    assert listing.classes == ("Cardiomegaly", "Effusion", "Hernia", "Infiltration", "Nodule")
    states = Counter(tuple(map(int, image.states)) for image in listing.images)
    assert states == {
        (0, 0, 0, 0, 0): 12,
        (1, 0, 0, 0, 0): 12,
        (1, 1, 0, 0, 0): 12,
        (0, 0, 1, 0, 0): 12,
        (0, 0, 0, 1, 1): 12,
    }
    assert Counter(image.split for image in listing.images) == {"train": 39, "test": 21}
    assert count_patients(listing) == 20


def test_reads_findings_in_columns(layouts: Path) -> None:
    listing = read(
        layouts / "chexpert",
        table={"train": "train.csv", "validation": "valid.csv"},
        label=["No Finding", "Cardiomegaly", "Pneumonia", "Pleural Effusion"],
    )
    assert listing.classes == ("Cardiomegaly", "Pneumonia", "Pleural Effusion")
    states = Counter((image.split, tuple(map(int, image.states))) for image in listing.images)
    assert states == {
        ("train", (0, 0, 0)): 20,
        ("train", (-1, 1, -2)): 20,
        ("validation", (1, 0, 0)): 6,
    }
    assert count_patients(listing) == 46


REFUSED = [
    ("nih", r"images_001, images_002, images_003 are not classes", TABLE),
    ("nih_flat", "No radiographs", TABLE),
    ("rsna", "stage_2_train_images are not classes", {"table": "stage_2_train_labels.csv"}),
    (
        "chexpert",
        "and 30 more are not classes",
        {"table": {"train": "train.csv", "validation": "valid.csv"}},
    ),
    ("montgomery", "No radiographs", {"class_pattern": "_([01])[.]"}),
    ("covidx", "class folders", {"table": {"train": "train.txt", "test": "test.txt"}}),
    ("coronahack", "class folders", {"table": "Chest_xray_Corona_Metadata.csv"}),
    ("many", "and 2990 more are not classes", {"table": "labels.csv"}),
    ("names_three", "Candidates: Non-COVID, Normal", {"negative": "NAME"}),
    ("fewer_test", "test has no folder COVID19", {"classes": ["NORMAL", "PNEUMONIA"]}),
]


@pytest.mark.parametrize(("name", "problem", "hint"), REFUSED, ids=[f"{row[0]}" for row in REFUSED])
def test_refuses_the_layout(name: str, problem: str, hint: dict[str, Any], layouts: Path) -> None:
    with pytest.raises(InputError, match=problem) as raised:
        read(layouts / name)
    message = str(raised.value)
    config = re.search(r"--config '(\{.*\})'", message)
    assert config
    assert json.loads(config[1]) == {"name": "224-mine"} | hint
    listed = re.findall(r"patient\d+|images_\d+", message)
    assert len(set(listed)) <= 10


def test_refuses_a_copied_class(layouts: Path) -> None:
    with pytest.raises(InputError, match=r"NORMAL - Copy is a copy of .*NORMAL: the same files"):
        read(layouts / "copy_folder")


def plan(layouts: Path, name: str, **config: Any) -> dict[str, set[str]]:
    listing = read(layouts / name)
    settings = SourceConfig(name="224-mine", **config)
    splits = plan_splits(listing, settings, cuts_test=True).splits
    return {split: {image.path.name for image in images} for split, images in splits.items()}


def test_copies_are_in_one_split(layouts: Path) -> None:
    splits = plan(layouts, "twice")
    originals = {
        split: {name.replace(" (1)", "") for name in names} for split, names in splits.items()
    }
    assert set(originals) == {"train", "validation", "test"}
    assert sum(map(len, originals.values())) == 60
    assert len(set.union(*originals.values())) == 60


@pytest.mark.parametrize("fold", range(3))
def test_folds_of_the_source(fold: int, layouts: Path) -> None:
    splits = plan(layouts, "kfold", split=f"fold:{fold}/3")
    folder = layouts / "kfold" / f"fold_{fold}"
    assert splits["test"] == {path.name for path in folder.glob("*/*")}
    assert len(splits["train"]) + len(splits["validation"]) == 48


def test_refuses_a_fold_that_the_source_has_not(layouts: Path) -> None:
    with pytest.raises(InputError, match=r'the source has 3 folds\. Expected "fold:0/3"'):
        plan(layouts, "kfold", split="fold:0/5")
