"""Builds of NIH ChestX-ray14: findings, official split, patients and incomplete sources."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from helpers.sources import DrawnSource, build, draw_image, published, read

from cxr_tfds.builders.nih_chest_xray14.nih_chest_xray14_dataset_builder import FINDINGS, Builder
from cxr_tfds.errors import InputError, MissingData

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
LABELS = ("No Finding", "Cardiomegaly", "Cardiomegaly|Effusion", "Hernia", "Infiltration|Nodule")
TEST_FROM = 33  # images of the patients from 12 are test


def draw(folder: Path, table: str = "Data_Entry_2017.csv") -> Path:
    """Draws 15 patients with three images each in two folders, as on Kaggle."""
    names = []
    rows = [HEADER]
    for i in range(45):
        names.append(f"{i // 3 + 1:08}_{i % 3:03}.png")
        draw_image(folder / f"images_{i // 30 + 1:03}" / "images" / names[-1])
        rows.append(f"{names[-1]},{LABELS[i % 5]},{i % 3},{i // 3 + 1},58,M,PA,2682,2749,0.1,0.1,")
    (folder / table).write_text("\n".join(rows))
    (folder / "train_val_list.txt").write_text("\n".join(names[:TEST_FROM]))
    (folder / "test_list.txt").write_text("\n".join(names[TEST_FROM:]))
    return folder


@pytest.mark.slow
class NihChestXray14Test(DrawnSource, tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 18, "validation": 15, "test": 12}  # noqa: RUF012
    draw = staticmethod(draw)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return draw(tmp_path / "source")


def test_states_of_named_images(source: Path, tmp_path: Path) -> None:
    builder = build(Builder, source, tmp_path)
    assert tuple(builder.info.features["label"].names) == FINDINGS  # also findings without an image
    records = read(builder.data_path)
    examples = {name: x for examples in records.values() for name, x in examples.items()}
    expected = {
        "train/images_001/images/00000001_000.png": set(),
        "train/images_001/images/00000001_002.png": {"Cardiomegaly", "Effusion"},
        "test/images_002/images/00000012_000.png": {"Hernia"},
    }
    for name, present in expected.items():
        states = dict(zip(FINDINGS, examples[name]["states"], strict=True))
        assert states == {finding: int(finding in present) for finding in FINDINGS}
        assert examples[name]["label"] == -1
    assert examples["test/images_002/images/00000012_000.png"]["patient_id"] == b"12"


@pytest.mark.slow
def test_keeps_the_official_test_split(source: Path, tmp_path: Path) -> None:
    records = read(build(Builder, source, tmp_path).data_path)
    assert {name.split("/")[0] for name in records["test"]} == {"test"}
    assert {name.split("/")[0] for name in records["train"]} == {"train"}
    patients = [{x["patient_id"] for x in examples.values()} for examples in records.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 15
    records = read(build(Builder, source, tmp_path, name="32-source", split="source").data_path)
    assert {split: len(examples) for split, examples in records.items()} == {
        "train": 33,
        "test": 12,
    }


def test_prefers_the_corrected_table(source: Path) -> None:
    builder = Builder(data_dir=source / "data")
    assert {image.patient_id for image in builder.scan(source).images} >= {"1", "15"}
    table = (source / "Data_Entry_2017.csv").read_text().replace("No Finding", "Fibrosis")
    (source / "Data_Entry_2017_v2020.csv").write_text(table)
    first = builder.scan(source).images[-1]
    assert first.image_id == "train/images_002/images/00000011_002.png"
    by_name = {image.path.name: image for image in builder.scan(source).images}
    assert by_name["00000001_000.png"].states[FINDINGS.index("Fibrosis")] == 1


def test_classes_of_choice(source: Path, tmp_path: Path) -> None:
    classes = {"Normal": ["No Finding"], "Hernia": ["Hernia"]}
    builder = build(Builder, source, tmp_path, classes=classes)
    assert builder.info.features["label"].names == ["Normal", "Hernia"]
    examples = read(builder.data_path)["test"]
    assert {x["label"] for x in examples.values()} == {0, 1}
    assert {tuple(x["states"]) for x in examples.values()} == {()}


def test_without_the_lists_splits_are_cut_by_patient(source: Path, tmp_path: Path) -> None:
    (source / "test_list.txt").unlink()
    with pytest.raises(InputError, match=r"has no test_list\.txt, but the other list"):
        build(Builder, source, tmp_path / "data")
    assert not published(tmp_path / "data")
    (source / "train_val_list.txt").unlink()
    builder = build(Builder, source, tmp_path / "data")
    report = json.loads((builder.data_path / "build_report.json").read_text(encoding="utf-8"))
    note = "The source has no train_val_list.txt and no test_list.txt: not the official split."
    assert note in report["notes"]
    patients = [
        {x["patient_id"] for x in examples.values()}
        for examples in read(builder.data_path).values()
    ]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 15


def test_a_patient_in_both_lists_is_an_error(source: Path, tmp_path: Path) -> None:
    lists = [source / name for name in ("train_val_list.txt", "test_list.txt")]
    names = "\n".join(path.read_text() for path in lists).split()
    lists[0].write_text("\n".join(names[: TEST_FROM + 1]))
    lists[1].write_text("\n".join(names[TEST_FROM + 1 :]))
    with pytest.raises(InputError, match=r"1 patient is in two splits:\n  12: "):
        build(Builder, source, tmp_path / "data")
    assert not published(tmp_path / "data")


@pytest.mark.slow
def test_a_part_of_the_images(source: Path, tmp_path: Path) -> None:
    (source / "images_001" / "images" / "00000001_000.png").unlink()
    with pytest.raises(
        InputError, match=r"1 rows whose image does not exist:\n  00000001_000\.png"
    ):
        build(Builder, source, tmp_path / "data")
    builder = build(Builder, source, tmp_path / "data", on_missing="leave_out")
    assert sum(map(len, read(builder.data_path).values())) == 44


def test_reports_missing_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxr_tfds.sources.kaggle.find_credentials", list)
    with pytest.raises(MissingData, match=r"does not exist(.*\n)+Get the data from https://nihcc"):
        build(Builder, tmp_path / "nowhere", tmp_path / "data")
