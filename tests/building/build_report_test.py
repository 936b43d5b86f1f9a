"""Tests the build report: counts, duplicates, patients; as JSON and as text."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from cxr_tfds.building.build_report import SCREEN_ROWS, build_report, format_report, write_report
from cxr_tfds.building.file_stats import FileStats, compute_checksum
from cxr_tfds.sources import SourceImage
from cxr_tfds.text import printable

CLASSES = ("NORMAL", "PNEUMONIA")


def image(image_id: str, patient: str = "", finding: str | None = None) -> SourceImage:
    split, label, _ = image_id.split("/")
    return SourceImage(Path("nowhere"), split, label, image_id, finding, patient)


def make_stats(content: str) -> FileStats:
    return FileStats(compute_checksum(content.encode()), 0, 1000, 10, 10, "JPEG", "L", 75)


SPLITS = {
    "train": [
        image("train/NORMAL/a", "p1", "none"),
        image("train/NORMAL/b", "p1", "none"),
        image("train/PNEUMONIA/c", "p2"),
    ],
    "validation": [
        image("train/PNEUMONIA/d", "p3", "virus"),
        image("validation/NORMAL/e", "p4", "none"),
    ],
    "test": [image("test/NORMAL/f"), image("test/PNEUMONIA/g", "p3", "virus")],
}
# a = b in one split; c = d across splits; e = g across splits and classes; f alone.
STATS = {
    i.image_id: make_stats(c)
    for i, c in zip((i for s in SPLITS.values() for i in s), "AACCEFE", strict=True)
}


def make_report(**changes: Any) -> dict[str, Any]:
    return build_report(
        **{
            "dataset": "name/224:1.0.0",
            "settings": {"size": 224},
            "splits": SPLITS,
            "stats": STATS,
            "classes": CLASSES,
            "bad_images": {},
        }
        | changes
    )


def test_counts_images() -> None:
    assert make_report()["splits"] == {
        "train": {
            "images": 3,
            "classes": {"NORMAL": 2, "PNEUMONIA": 1},
            "findings": {"none": 2},
            "patients": 2,
            "images_without_patient": 0,
        },
        "validation": {
            "images": 2,
            "classes": {"NORMAL": 1, "PNEUMONIA": 1},
            "findings": {"none": 1, "virus": 1},
            "patients": 2,
            "images_without_patient": 0,
        },
        "test": {
            "images": 2,
            "classes": {"NORMAL": 1, "PNEUMONIA": 1},
            "findings": {"virus": 1},
            "patients": 1,
            "images_without_patient": 1,
        },
    }


def test_finds_duplicates() -> None:
    assert make_report()["duplicates"] == {
        "groups": 3,
        "images": 6,
        "within_split": 1,
        "across_splits": [
            ["test/PNEUMONIA/g", "validation/NORMAL/e"],
            ["train/PNEUMONIA/c", "train/PNEUMONIA/d"],
        ],
        "across_classes": [["test/PNEUMONIA/g", "validation/NORMAL/e"]],
    }


def test_finds_patients_in_two_splits() -> None:
    patients = make_report()["patients"]
    assert patients["in_two_splits"] == {"p3": ["validation", "test"]}
    assert patients["in_two_splits_of_the_source"] == {"p3": ["train", "test"]}


def test_shortcuts_are_measured_on_train() -> None:
    assert make_report()["shortcuts"] is None  # too few images
    train = [image(f"train/{label}/{number}") for label in CLASSES for number in range(20)]
    stats = {
        i.image_id: make_stats(i.image_id)._replace(mode="RGB" if i.label == "NORMAL" else "L")
        for i in train
    }
    (shortcut,) = make_report(splits={"train": train}, stats=stats)["shortcuts"]
    assert (shortcut["property"], shortcut["class"], shortcut["auc"]) == (
        "colour mode",
        "PNEUMONIA",
        1.0,
    )
    stats = {i.image_id: make_stats(i.image_id) for i in train}
    assert make_report(splits={"train": train}, stats=stats)["shortcuts"] == []


def test_writes_files(tmp_path: Path) -> None:
    bad = {"train/NORMAL/x, y.jpeg": "empty file (0 bytes)", "test/NORMAL/a\nb": "is not an image"}
    report = make_report(bad_images=bad, notes=["3 rows have no image"], max_examples_per_split=7)
    write_report(report, tmp_path)
    assert json.loads((tmp_path / "build_report.json").read_text(encoding="utf-8")) == report
    with (tmp_path / "bad_images.csv").open(encoding="utf-8", newline="") as file:
        rows = [[printable(name), reason] for name, reason in sorted(bad.items())]
        assert list(csv.reader(file)) == [["image_id", "reason"], *rows]
    text = (tmp_path / "build_report.md").read_text(encoding="utf-8")
    for text_part in (
        "# name/224:1.0.0",
        "| train      | 3      | 2      | 1         | 2    | 0     | 2        | 0               |",
        "Incomplete: built with --max_examples_per_split 7.",
        "3 rows have no image",
        "Byte-identical files: 6 images in 3 groups, 1 of them within one split.",
        "DUPLICATES ACROSS SPLITS (2):\n- test/PNEUMONIA/g = validation/NORMAL/e\n",
        "DUPLICATES ACROSS CLASSES (1):",
        "PATIENTS IN TWO SPLITS (1):\n- p3: validation and test",
        "Patients in two of the source's own splits (1):\n- p3: train and test",
        "Unusable files, left out (2):\n- test/NORMAL/a\\\\nb: is not an image\n"
        "- train/NORMAL/x, y.jpeg: empty file (0 bytes)",
        "Shortcuts were not checked: a class has fewer than 20 train images.",
    ):
        assert text_part in text, text_part


def test_writes_no_csv_without_bad_images(tmp_path: Path) -> None:
    write_report(make_report(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "build_report.json",
        "build_report.md",
    ]


@pytest.mark.parametrize(("short", "rows"), [(True, 5), (False, 30)])
def test_shortens_long_lists_on_screen_only(short: bool, rows: int) -> None:
    patients = [
        image(f"{split}/NORMAL/{n}", f"p{n:02}") for split in ("train", "test") for n in range(30)
    ]
    splits = {split: [i for i in patients if i.split == split] for split in ("train", "test")}
    report = make_report(
        splits=splits, stats={i.image_id: make_stats(i.image_id) for i in patients}
    )
    text = format_report(report, SCREEN_ROWS if short else None)
    assert text.count(": train and test") == rows
    assert ("and 25 more, see build_report.md" in text) == short


def test_omits_findings_equal_to_the_classes() -> None:
    splits = {
        "train": [image(f"train/{label}/{n}", "", label) for label in CLASSES for n in range(2)]
    }
    text = format_report(
        make_report(
            splits=splits, stats={i.image_id: make_stats(i.image_id) for i in splits["train"]}
        )
    )
    assert text.splitlines()[0].count("NORMAL") == 1
