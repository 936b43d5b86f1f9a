"""Builds of any class folders: classes, patients and splits from folder and config."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow_datasets as tfds
from helpers.sources import DrawnSource, Records, build, draw_image, published, read

from cxr_tfds.builders.xray_folder.xray_folder_dataset_builder import Builder
from cxr_tfds.building.config import SourceConfig
from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.names import DatasetName

CLASSES = ("Edema", "Normal", "TB")


def draw(folder: Path, *prefixes: str) -> Path:
    """Draws 10 patients with two images for each class in each `folder`/prefix."""
    number = 0
    for prefix in prefixes or ("",):
        for class_name in CLASSES:
            for _ in range(10):
                number += 1
                for view in "ab":
                    draw_image(folder / prefix / class_name / f"p{number:03}_{view}.png")
    return folder


@pytest.mark.slow
class XrayFolderTest(DrawnSource, tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 42, "validation": 6, "test": 12}  # noqa: RUF012
    draw = staticmethod(draw)


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders class/; read-only."""
    return draw(tmp_path_factory.mktemp("flat"))


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders split/class/; read-only."""
    return draw(tmp_path_factory.mktemp("split"), "train", "val", "test")


def read_notes(builder: Any) -> list[str]:
    return json.loads((builder.data_path / "build_report.json").read_text(encoding="utf-8"))[
        "notes"
    ]


def get_patients(records: Records) -> dict[str, set[bytes]]:
    return {
        split: {example["patient_id"] for example in examples.values()}
        for split, examples in records.items()
    }


@pytest.mark.slow
def test_cuts_splits_by_patient(flat: Path, tmp_path: Path) -> None:
    builder = build(Builder, flat, tmp_path, patient=r"^(p\d+)_")
    records = read(builder.data_path)
    assert {split: len(examples) for split, examples in records.items()} == {
        "train": 42,
        "validation": 6,
        "test": 12,
    }
    known = get_patients(records)
    assert sum(map(len, known.values())) == len(set.union(*known.values())) == 30
    for examples in records.values():
        assert {example["label"] for example in examples.values()} == {0, 1, 2}
    assert read_notes(builder) == [
        "The source has no test split: 20% of each class were cut as test."
    ]
    example = next(
        examples["TB/p021_a.png"] for examples in records.values() if "TB/p021_a.png" in examples
    )
    assert (example["label"], example["finding"], example["patient_id"]) == (2, 2, b"p021")


def test_stores_the_class_names(flat: Path, tmp_path: Path) -> None:
    builder = build(Builder, flat, tmp_path)
    assert tuple(builder.info.features["label"].names) == ("Normal", "Edema", "TB")
    again = Builder(data_dir=tmp_path, config=SourceConfig(name="32", size=32))
    assert again.info.features["label"].names == ["Normal", "Edema", "TB"]
    assert open_dataset(DatasetName("xray_folder", "32"), tmp_path).labels == (
        "Normal",
        "Edema",
        "TB",
    )
    build(Builder, flat, tmp_path)  # reuses the dataset
    with pytest.raises(InputError, match=r"was built with patient=None, but this config has 'p\.'"):
        build(Builder, flat, tmp_path, patient="p.")


def test_keeps_the_order_of_given_classes(flat: Path, tmp_path: Path) -> None:
    builder = build(Builder, flat, tmp_path, classes=["tb", "EDEMA", "normal"], negative="TB")
    assert builder.info.features["label"].names == ["tb", "EDEMA", "normal"]
    assert builder.info.metadata["classes"] == ["tb", "EDEMA", "normal"]


def test_warns_if_splits_are_cut_by_image(
    flat: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    builder = build(Builder, flat, tmp_path)
    assert "60 of 60 images have no known patient" in caplog.text
    assert '"patient": "^(p[0-9]+)_"' in caplog.text
    assert read_notes(builder)[-1].startswith(
        "60 of 60 images have no known patient and are split one by one"
    )


@pytest.mark.slow
def test_keeps_the_test_split_of_the_source(split: Path, tmp_path: Path) -> None:
    builder = build(Builder, split, tmp_path, patient="^p[0-9]+")
    records = read(builder.data_path)
    assert {image_id.split("/")[0] for image_id in records["test"]} == {"test"}
    assert len(records["test"]) == 60
    assert len(records["validation"]) == 12  # a tenth of train and val together


@pytest.mark.slow
def test_keeps_the_validation_split_without_patients(split: Path, tmp_path: Path) -> None:
    builder = build(Builder, split, tmp_path)
    records = read(builder.data_path)
    for name, examples in records.items():
        assert {image_id.split("/")[0] for image_id in examples} == {name}
    assert "No patient is known: the source's own validation split was kept." in read_notes(builder)


@pytest.mark.slow
def test_finds_patients_in_folder_names(flat: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for path in flat.rglob("*.png"):
        place = source / path.parent.name / path.name.partition("_")[0] / "views" / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    records = read(build(Builder, source, tmp_path / "data", patient="^([^/]+)/").data_path)
    assert set.union(*get_patients(records).values()) == {
        f"p{number:03}".encode() for number in range(1, 31)
    }
    assert any("TB/p021/views/p021_b.png" in examples for examples in records.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": "Normal"}, r"classes='Normal'; expected a list"),
        ({"classes": ["Normal", 2]}, "expected a list"),
        (
            {"classes": ["Normal", "TB", "Edema", "Flu"]},
            r"has no folder Flu\.\nFound there: Edema/, Normal/, TB/",
        ),
        ({"negative": "Flu"}, "negative='Flu' is not one of the classes Edema, Normal, TB"),
        ({"negative": 0}, "negative=0; expected text"),
        ({"patient": "("}, r"patient='\(' is not a regular expression: "),
        (
            {"patient": "x(.)"},
            r"patient='x\(\.\)' matches no file name\. Examples of names: p001_a\.png, p001_b\.png",
        ),
        ({"split": "source"}, 'split="source", but .* has no splits of its own'),
    ],
)
def test_refuses_bad_settings(
    settings: dict[str, Any], message: str, flat: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        build(Builder, flat, tmp_path / "data", **settings)
    assert not published(tmp_path / "data")


def _make_videos(source: Path) -> None:
    for path in source.rglob("*.png"):
        path.write_bytes(b"\0\0\0\x18ftypmp42" + path.name.encode())
        path.rename(path.with_suffix(".mp4"))


def _keep_one_image(source: Path) -> None:
    for path in sorted((source / "TB").iterdir())[1:]:
        path.unlink()


def _copy_into_other_class(source: Path) -> None:
    for path in (source / "TB").iterdir():
        shutil.copy(path, source / "Edema")


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (_make_videos, {}, r"(?s)60 unusable files:.*not an image in a known format.*on_bad_image"),
        (
            _keep_one_image,
            {},
            r"TB has too few images .* 1, in 1 group .* for validation and test\. .*--config '\{",
        ),
        (_copy_into_other_class, {}, r"(?s)20 groups of identical .* and 10 more\n.*leave_out"),
        (_copy_into_other_class, {"on_conflict": "leave_out"}, "None of the 0 images of TB is in"),
        (lambda _: None, {"window": [40, 400]}, r"(?s)60 unusable files:.*an image of 8 bits"),
        (lambda _: None, {"patient": "^."}, r"has too few images to cut splits: 20, in 1 group"),
        (lambda _: None, {"split": "fold:0/61"}, "there are only 60 groups of images"),
        (lambda _: None, {"exclude": ["*"]}, "left out: 60 by the settings include and exclude"),
    ],
)
def test_refuses_odd_sources(
    change: Callable[[Path], None],
    settings: dict[str, Any],
    message: str,
    flat: Path,
    tmp_path: Path,
) -> None:
    source = Path(shutil.copytree(flat, tmp_path / "source"))
    change(source)
    with pytest.raises(InputError, match=message):
        build(Builder, source, tmp_path / "data", **settings)
    assert not published(tmp_path / "data")


def test_reports_missing_data(tmp_path: Path) -> None:
    with pytest.raises(
        MissingData,
        match=r"It does not exist\.\nExpected layout, (.*\n)+\nBuild it: tfds build xray_folder",
    ):
        build(Builder, tmp_path / "nowhere", tmp_path / "data")
