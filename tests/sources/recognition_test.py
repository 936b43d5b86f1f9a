"""The builder that reads a source is recognized by its layout."""

from __future__ import annotations

import csv
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.sources import draw_image, draw_source

from cxr_tfds.errors import InputError, MissingData, Undecided
from cxr_tfds.sources.recognition import recognize_source

PUBLISHED = (
    "chest_xray_pneumonia",
    "chexpert_small",
    "covid19_radiography",
    "covid_chestxray",
    "covid_ct",
    "covidx",
    "medmnist_pneumonia",
    "nih_chest_xray14",
    "padchest",
    "pneumonia_xray_images",
    "rsna_pneumonia",
    "tb_chest_xray",
    "vindr_cxr",
)


def draw_classes(folder: Path, *names: str) -> Path:
    for name in names:
        for number in range(3):
            draw_image(folder / name / f"{number}.png")
    return folder


def draw_table(folder: Path, name: str = "labels.csv") -> Path:
    for number in range(4):
        draw_image(folder / "images" / f"{number}.png")
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        writer.writerows([f"{number}.png", ("normal", "TB")[number % 2]] for number in range(4))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("dataset", PUBLISHED)
def test_recognizes_published_datasets(dataset: str, tmp_path: Path) -> None:
    """Each builder's own test draws its source."""
    if dataset == "rsna_pneumonia":
        pytest.importorskip("pydicom")
    module = f"cxr_tfds.builders.{dataset}.{dataset}_dataset_builder_test"
    tests = [
        value
        for value in vars(importlib.import_module(module)).values()
        if isinstance(value, type) and hasattr(value, "draw")
    ]
    drawn = [test for test in tests if test.__name__ != "DrawnSource"]
    drawn[0].draw(tmp_path)
    recognized = recognize_source(tmp_path, {})
    assert (recognized.dataset, recognized.settings) == (dataset, {})


@pytest.mark.parametrize(
    ("settings", "dataset"),
    [
        ({}, "chest_xray_pneumonia"),
        ({"split": "source"}, "chest_xray_pneumonia"),
        ({"negative": "NORMAL"}, "xray_folder"),  # a setting that the other builder lacks
    ],
)
def test_recognizes_the_kaggle_tree(settings: dict[str, Any], dataset: str, tmp_path: Path) -> None:
    assert recognize_source(draw_source(tmp_path), settings).dataset == dataset


def test_own_splits_are_not_the_kaggle_tree(tmp_path: Path) -> None:
    for split in ("train", "test"):
        draw_classes(tmp_path / split, "NORMAL", "PNEUMONIA")
    assert recognize_source(tmp_path, {}).dataset == "xray_folder"


def test_recognizes_class_folders(tmp_path: Path) -> None:
    recognized = recognize_source(draw_classes(tmp_path, "TB", "Normal"), {})
    assert recognized[:3] == ("xray_folder", {}, "class folders: Normal, TB")


def test_recognizes_a_table(tmp_path: Path) -> None:
    recognized = recognize_source(draw_table(tmp_path), {})
    assert recognized.dataset == "xray_table"
    assert recognized.settings == {"table": "labels.csv"}


def test_two_tables_with_labels_are_not_guessed(tmp_path: Path) -> None:
    draw_table(draw_table(tmp_path), "train_labels.csv")
    with pytest.raises(InputError, match=r"seem to be in labels.csv, train_labels.csv"):
        recognize_source(tmp_path, {})
    assert recognize_source(tmp_path, {"table": "labels.csv"}).dataset == "xray_table"


def test_two_published_datasets_are_ambiguous(tmp_path: Path) -> None:
    draw_source(tmp_path)
    (tmp_path / "nih").mkdir()
    (tmp_path / "nih" / "Data_Entry_2017.csv").write_text("Image Index\n", encoding="utf-8")
    with pytest.raises(InputError, match="looks like 2 datasets") as raised:
        recognize_source(tmp_path, {})
    datasets = re.findall(r"cxr-data build \S+ --dataset (\w+)", str(raised.value))
    assert datasets == ["chest_xray_pneumonia", "nih_chest_xray14"]


def test_asks_for_the_negative_class(tmp_path: Path) -> None:
    draw_classes(tmp_path, "A", "B")
    with pytest.raises(Undecided):
        recognize_source(tmp_path, {})
    assert recognize_source(tmp_path, {"negative": "A"}).dataset == "xray_folder"


def test_reports_a_missing_source(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"It does not exist\.\nExpected a folder or archive"):
        recognize_source(tmp_path / "nowhere", {})
