"""Builds of drawn radiographs: the records, and missing data."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.kaggle_names import read_kaggle_names
from helpers.sources import DrawnSource, Records, build, draw_image, draw_source, published, read

from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.imaging.pixels import radiograph
from cxr_tfds.phantom.dataset import images_per_split, write_dataset

SPLITS = ("train", "validation", "test")


@pytest.mark.slow
class ChestXrayPneumoniaTest(DrawnSource, tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 30, "validation": 6, "test": 12}  # noqa: RUF012
    draw = partial(write_dataset, images=images_per_split(20, 12), seed=0)


@pytest.fixture(scope="module")
def kept_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source with unusual files; read-only."""
    folder = draw_source(tmp_path_factory.mktemp("kept") / "source")
    train = folder / "chest_xray" / "train"
    draw_image(train / "NORMAL" / "NORMAL2-IM-0001-0001.png")  # not patient IM-0001
    draw_image(train / "NORMAL" / "unknown.jpeg")
    draw_image(
        train / "PNEUMONIA" / "person1_virus_900.jpeg", "RGB", (33, 70)
    )  # not patient bacteria-1
    draw_image(train / "PNEUMONIA" / "person1_bacteria_901.png", "RGBA")  # patient bacteria-1 again
    draw_image(folder / "chest_xray" / "test" / "PNEUMONIA" / "person900_bacteria_902.jpeg", "CMYK")
    (train / "NORMAL" / "._IM-0001-0001.jpeg").write_bytes(b"\0\5\x16\7")
    shutil.copytree(
        folder / "chest_xray", folder / "chest_xray" / "chest_xray"
    )  # as in the Kaggle zip
    return folder


@pytest.fixture(scope="module")
def kept_data(kept_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset built from `kept_source`; read-only."""
    return Path(build(Builder, kept_source, tmp_path_factory.mktemp("data")).data_path)


@pytest.fixture(scope="module")
def records(kept_data: Path) -> Records:
    return read(kept_data)


def pair_with_files(source: Path, records: Records) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields the source file of each example, and the example."""
    for examples in records.values():
        for image_id, example in examples.items():
            split, class_name, name = image_id.split("/")
            yield (
                source / "chest_xray" / split.replace("validation", "val") / class_name / name,
                example,
            )


@pytest.mark.parametrize(
    ("image_id", "label", "finding", "patient", "size"),
    [
        ("train/NORMAL/IM-0004-0001.jpeg", 0, 0, "IM-0004", (30, 40)),
        ("train/NORMAL/NORMAL2-IM-0001-0001.png", 0, 0, "NORMAL2-IM-0001", (30, 40)),
        (
            "train/NORMAL/unknown.jpeg",
            0,
            -1,
            "",
            (30, 40),
        ),  # neither finding nor patient in the name
        ("train/PNEUMONIA/person1_bacteria_1.jpeg", 1, 1, "bacteria-1", (30, 40)),
        ("train/PNEUMONIA/person1_bacteria_901.png", 1, 1, "bacteria-1", (30, 40)),
        ("train/PNEUMONIA/person1_virus_900.jpeg", 1, 2, "virus-1", (70, 33)),
        ("validation/PNEUMONIA/person31_bacteria_31.jpeg", 1, 1, "bacteria-31", (30, 40)),
        ("test/PNEUMONIA/person33_virus_33.jpeg", 1, 2, "virus-33", (30, 40)),
        ("test/NORMAL/IM-0037-0001.jpeg", 0, 0, "IM-0037", (30, 40)),
    ],
)
def test_stores_label_finding_and_patient(
    image_id: str, label: int, finding: int, patient: str, size: tuple[int, int], records: Records
) -> None:
    example = next(examples[image_id] for examples in records.values() if image_id in examples)
    assert (example["label"], example["finding"]) == (label, finding)
    assert example["patient_id"].decode() == patient
    assert (example["height"], example["width"]) == size


def test_stores_every_file_once_and_no_junk(kept_source: Path, records: Records) -> None:
    ids = [image_id for examples in records.values() for image_id in examples]
    assert len(ids) == len(set(ids)) == 74 + 5
    assert {path for path, _ in pair_with_files(kept_source, records)} == {
        path for path in kept_source.glob("chest_xray/[tv]*/*/*") if not path.name.startswith("._")
    }


def test_stores_the_decoded_pixels(kept_source: Path, records: Records) -> None:
    for path, example in pair_with_files(kept_source, records):
        wanted = radiograph(path.read_bytes(), 32)
        np.testing.assert_array_equal(example["image"], wanted.pixels)
        assert (example["height"], example["width"]) == (wanted.height, wanted.width)


def test_keeps_test_and_cuts_a_tenth_as_validation(records: Records) -> None:
    assert set(records) == set(SPLITS)
    assert {image_id.split("/")[0] for image_id in records["test"]} == {"test"}
    assert not any(
        image_id.startswith("test/")
        for split in ("train", "validation")
        for image_id in records[split]
    )
    assert len(records["test"]) == 11
    for label, images in ((0, 34), (1, 34)):
        cut = [example for example in records["validation"].values() if example["label"] == label]
        assert len(cut) in (round(0.1 * images), round(0.1 * images) + 1)


def test_splits_share_no_patient(records: Records) -> None:
    seen: dict[bytes, str] = {}
    for split, examples in records.items():
        for example in examples.values():
            if example["patient_id"]:
                assert seen.setdefault(example["patient_id"], split) == split


def test_info_has_labels_settings_and_fingerprint(kept_data: Path) -> None:
    info = tfds.builder_from_directory(kept_data).info
    assert info.features["label"].names == ["NORMAL", "PNEUMONIA"]
    assert info.features["finding"].names == ["none", "bacteria", "virus"]
    assert info.features["image"].shape == (32, 32, 1)
    assert info.supervised_keys == ("image", "label")
    settings = {"size": 32, "channels": 1, "fit": "stretch", "split": "patient"}
    assert settings.items() <= info.metadata.items()
    assert re.fullmatch("[0-9a-f]{64}", info.metadata["fingerprint"])


def test_writes_no_local_path(kept_source: Path, kept_data: Path) -> None:
    for path in kept_data.rglob("*"):
        if path.is_file():
            assert str(kept_source).encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "20-rgb-pad", "size": 20, "channels": 3, "fit": "pad"},
        {"name": "mine", "size": 21, "fit": "crop"},
    ],
)
def test_builds_other_configs(settings: dict[str, Any], kept_source: Path, tmp_path: Path) -> None:
    builder = build(
        Builder, kept_source, tmp_path, **({"size": 224} | json.loads(json.dumps(settings)))
    )
    fit: dict[str, Any] = {"size": 224, "channels": 1, "fit": "stretch"} | settings
    fit.pop("name")
    assert builder.info.features["image"].shape == (fit["size"], fit["size"], fit["channels"])
    for path, example in pair_with_files(kept_source, read(builder.data_path)):
        np.testing.assert_array_equal(example["image"], radiograph(path.read_bytes(), **fit).pixels)


def test_keeps_the_splits_of_the_source(kept_source: Path, tmp_path: Path) -> None:
    builder = build(Builder, kept_source, tmp_path, name="8-source", size=8, split="source")
    records = read(builder.data_path)
    for split in SPLITS:
        assert {image_id.split("/")[0] for image_id in records[split]} == {split}
    assert len(records["validation"]) == 4


GET_THE_DATA = "Get the data: kaggle datasets download paultimothymooney/chest-xray-pneumonia"
NO_FOLDER = "It does not exist."


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("nowhere", NO_FOLDER),
        ("empty", "Found there: nothing"),
        ("notes.txt", "The file is not an archive that can be read"),
        ("pictures", "Found there: a.jpeg, b.jpeg"),
        (None, NO_FOLDER),  # --manual_dir not given
    ],
)
def test_reports_missing_data(place: str | None, found: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("see ward 3", encoding="utf-8")
    draw_image(tmp_path / "pictures" / "a.jpeg")
    draw_image(tmp_path / "pictures" / "b.jpeg")
    looked_in = tmp_path / "data" / "downloads" / "manual" if place is None else tmp_path / place
    with pytest.raises(MissingData) as caught:
        build(Builder, None if place is None else looked_in, tmp_path / "data")
    message = str(caught.value)
    assert message.startswith(f"No radiographs in {looked_in}\n{found}")
    assert "\nExpected layout:\n  chest_xray/train/" in message
    assert f"\n\n{GET_THE_DATA}" in message
    assert (
        "tfds build chest_xray_pneumonia --imports cxr_tfds.builders --manual_dir FOLDER" in message
    )
    assert "cxr-data phantom --out FOLDER" in message
    assert (
        "\nTo download it during the build instead: pip install kaggle, create a token" in message
    )
    assert not published(tmp_path / "data")


def test_refuses_a_missing_class(tmp_path: Path) -> None:
    source = draw_source(tmp_path / "source")
    shutil.rmtree(source / "chest_xray/test/NORMAL")
    with pytest.raises(
        InputError,
        match=r"chest_xray/test has no folder NORMAL\.\nFound there: PNEUMONIA/\nExpected",
    ):
        build(Builder, source, tmp_path / "data")
    assert not published(tmp_path / "data")


def test_readme_counts_match_the_kaggle_names() -> None:
    """The listed test images were cut from train; the official ones are not in the list."""
    match = re.search(r"train (\d+) / (\d+), val (\d+) / (\d+)", Builder.get_metadata().description)
    counts = Counter(
        (image.split.replace("test", "train"), image.label) for image in read_kaggle_names()
    )
    assert match
    assert list(map(int, match.groups())) == [
        counts[split, label] for split in ("train", "validation") for label in Builder.CLASSES
    ]


def test_stores_real_originals(shared_data: Path, tmp_path: Path) -> None:
    originals = shared_data / "kermany_original/chest_xray/train"
    for class_name in Builder.CLASSES:
        folder = tmp_path / "source" / "train" / class_name
        folder.mkdir(parents=True)
        for path in sorted((originals / class_name).iterdir())[:10]:
            shutil.copy(path, folder)
    records = read(
        build(Builder, tmp_path / "source", tmp_path / "data", name="real", size=224).data_path
    )
    assert sum(map(len, records.values())) == 20
    for split, examples in records.items():
        for image_id, example in examples.items():
            wanted = radiograph((tmp_path / "source" / image_id).read_bytes(), 224)
            np.testing.assert_array_equal(example["image"], wanted.pixels)
            assert example["patient_id"], (split, image_id)
