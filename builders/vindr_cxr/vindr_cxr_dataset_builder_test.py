"""Builds of VinDr-CXR: votes of the readers, column names of both tables, official split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.sources import DrawnSource, build, dicom_file, draw_image, published, read

from cxr_tfds.builders.vindr_cxr.vindr_cxr_dataset_builder import COLUMNS, Builder, _vote
from cxr_tfds.errors import InputError, MissingData

pytestmark = pytest.mark.slow

pytest.importorskip("pydicom")
FINDINGS = COLUMNS[:-1]  # without "No finding"


def get_row(*names: str, present: Sequence[str]) -> str:
    return ",".join((*names, *(str(int(column in present)) for column in COLUMNS)))


def draw(folder: Path) -> Path:
    """Draws 10 training images, each read by three radiologists, and 4 test images."""
    train = [",".join(("image_id", "rad_id", *COLUMNS))]
    test = [train[0].replace("rad_id,", "").replace("Other diseases", "Other disease")]
    rng = np.random.default_rng(1)
    for i in range(14):
        split = "train" if i < 10 else "test"
        name = f"{i:032x}"
        path = folder / split / f"{name}.dicom"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            dicom_file(rng.integers(0, 4096, (30, 40), dtype=np.uint16), BitsStored=12)
        )
        if split == "test":
            test.append(get_row(name, present=["Other diseases"] if i % 2 else ["No finding"]))
            continue
        readers = [["No finding"], ["Nodule/Mass"], ["Nodule/Mass", "Pneumonia"]]
        readers = [["No finding"]] * 3 if i % 2 else readers
        train += [get_row(name, f"R{k}", present=own) for k, own in enumerate(readers)]
    (folder / "annotations").mkdir()
    (folder / "annotations" / "image_labels_train.csv").write_text("\n".join(train))
    (folder / "annotations" / "image_labels_test.csv").write_text("\n".join(test))
    return folder


class VindrCxrTest(DrawnSource, tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 8, "validation": 2, "test": 4}  # noqa: RUF012
    draw = staticmethod(draw)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("source"))


def get_present(source: Path, data_dir: Path, **settings: Any) -> dict[str, set[str]]:
    """Returns image id to the findings that are present; the others are absent."""
    builder = build(Builder, source, data_dir, **settings)
    assert tuple(builder.info.features["label"].names) == FINDINGS
    found = {}
    for examples in read(builder.data_path).values():
        for name, example in examples.items():
            states = dict(zip(FINDINGS, example["states"], strict=True))
            assert set(states.values()) <= {0, 1}
            found[name] = {finding for finding, state in states.items() if state == 1}
    return found


def test_most_readers_decide(source: Path, tmp_path: Path) -> None:
    found = get_present(source, tmp_path)
    assert found[f"train/train/{0:032x}.dicom"] == {"Nodule/Mass"}
    assert found[f"train/train/{1:032x}.dicom"] == set()
    assert found[f"test/test/{11:032x}.dicom"] == {"Other diseases"}
    assert found[f"test/test/{12:032x}.dicom"] == set()
    report = next(tmp_path.rglob("build_report.json")).read_text(encoding="utf-8")
    notes = json.loads(report)["notes"]
    assert any("more than half of the readers" in note for note in notes)


def test_any_reader_decides(source: Path, tmp_path: Path) -> None:
    found = get_present(source, tmp_path, repeated_rows="any")
    assert found[f"train/train/{0:032x}.dicom"] == {"Nodule/Mass", "Pneumonia"}


def test_readers_may_have_to_agree(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="5 images whose rows contradict each other"):
        build(Builder, source, tmp_path, repeated_rows="same")
    assert not published(tmp_path)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "1", "0"], "1"),
        (["1", "0", "0"], "0"),
        (["1.0", "0"], "-1"),
        (["1", "", ""], "1"),
        (["", ""], ""),
        (["1", "maybe", "0"], "maybe"),
    ],
)
def test_votes(cells: Sequence[str], expected: str) -> None:
    assert _vote(cells) == expected


def test_keeps_the_official_test_split(source: Path, tmp_path: Path) -> None:
    records = read(build(Builder, source, tmp_path).data_path)
    assert {name.split("/")[1] for name in records["test"]} == {"test"}
    assert {x["patient_id"] for examples in records.values() for x in examples.values()} == {b""}


def test_messages_name_the_published_table_and_line(tmp_path: Path) -> None:
    source = draw(tmp_path / "source")
    table = source / "annotations" / "image_labels_train.csv"
    text = table.read_text()
    lines = text.splitlines()
    lines[4] = lines[4].replace("0,1", "0,5", 1) if "0,1" in lines[4] else lines[4]
    table.write_text("\n".join(lines))
    with pytest.raises(
        InputError,
        match=r"^annotations/image_labels_train\.csv, line 5: 'No finding' has the value '5'",
    ):
        build(Builder, source, tmp_path / "data")
    table.write_text(text)
    (source / "train" / f"{2:032x}.dicom").unlink()
    with pytest.raises(
        InputError, match=r"1 rows(.*\n)+.*\(annotations/image_labels_train\.csv, line 8\)"
    ) as e:
        build(Builder, source, tmp_path / "data")
    assert str(e.value).endswith("""'{"name": "32", "size": 32, "on_missing": "leave_out"}'""")
    assert not published(tmp_path / "data")


def draw_kaggle(folder: Path, suffix: str = ".png") -> Path:
    """Draws the Kaggle layout: 12 images, each read by three radiologists, and unlabelled ones."""
    lines = ["image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"]
    for i in range(14):
        name = f"{i:032x}"
        draw_image(folder / ("train" if i < 12 else "test") / f"{name}{suffix}")
        readers = [["No finding"]] * 3
        if i % 2:
            readers = [["Cardiomegaly", "Cardiomegaly", "ILD"], ["Cardiomegaly"], ["No finding"]]
        for k, found in enumerate(readers if i < 12 else []):
            lines += [f"{name},{label},0,R{k},1,2,3,4" for label in found]
    (folder / "train.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_reads_the_kaggle_layout(tmp_path: Path) -> None:
    source = draw_kaggle(tmp_path / "source" / "vinbigdata")
    builder = build(Builder, source.parent, tmp_path / "data")
    assert builder.info.features["label"].names == ["Cardiomegaly", "ILD"]
    records = read(builder.data_path)
    assert {split: len(examples) > 0 for split, examples in records.items()} == {
        "train": True,
        "validation": True,
        "test": True,
    }
    states = {
        name: tuple(example["states"]) for own in records.values() for name, example in own.items()
    }
    assert len(states) == 12  # the test images have no labels
    odd = f"vinbigdata/train/{1:032x}.png"
    assert states[odd] == (1, 0)  # two of three readers, one of three
    assert states[odd.replace("1.png", "2.png")] == (0, 0)
    everyone = build(Builder, source, tmp_path / "any", repeated_rows="any")
    examples = [x for own in read(everyone.data_path).values() for x in own.values()]
    assert sum(tuple(example["states"]) == (1, 1) for example in examples) == 6


def test_refuses_an_unknown_class(tmp_path: Path) -> None:
    source = draw_kaggle(tmp_path / "source")
    table = source / "train.csv"
    table.write_text(table.read_text().replace("Cardiomegaly", "Cardiomegali", 1))
    with pytest.raises(InputError, match=r"train.csv, line 5: .*Did you mean 'Cardiomegaly'\?"):
        build(Builder, source, tmp_path / "data")


def test_reports_missing_data(source: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"does not exist(.*\n)+Get access to https://physionet"):
        build(Builder, tmp_path / "nowhere", tmp_path / "data")
    other = draw(tmp_path / "other")
    (other / "annotations" / "image_labels_test.csv").unlink()
    with pytest.raises(MissingData, match=r"No table image_labels_test\.csv in .*other"):
        build(Builder, other, tmp_path / "data")
