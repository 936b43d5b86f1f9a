"""Tests of the builder `xray_table` on drawn sources."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.sources import build, draw_image, published, read

from cxr_tfds.builders.xray_table.xray_table_dataset_builder import Builder
from cxr_tfds.errors import InputError, MissingData

FINDINGS = ("Edema", "Effusion", "Nodule")
CELLS = {"1": 1, "0": 0, "-1": -1, "": -2}


def draw_classes(folder: Path, images: int = 40) -> Path:
    """Draws images of 20 patients, half of them with TB, and `labels.csv`."""
    rows = ["file,diagnosis,patient"]
    for number in range(images):
        path = draw_image(folder / f"ward{number % 3}" / f"{number:03}.png")
        rows.append(f"{path.name},{('Normal', 'TB')[number // 2 % 2]},p{number // 2}")
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


def draw_findings(folder: Path, images: int = 40) -> Path:
    """Draws images of 20 patients and `labels.csv` with a column for each finding."""
    rows = [",".join(("file", "patient", *FINDINGS))]
    cells = list(CELLS)
    for number in range(images):
        path = draw_image(folder / f"{number:03}.png")
        states = (cells[number % 4], cells[number // 2 % 2], cells[number // 4 % 3])
        rows.append(",".join((path.name, f"p{number // 2}", *states)))
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


def test_builds_classes(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "source")
    builder = build(Builder, source, tmp_path / "data", table="labels.csv", label="diagnosis")
    assert builder.info.features["label"].names == ["Normal", "TB"]
    assert builder.info.metadata["several_findings"] is False
    records = read(builder.data_path)
    examples = {name: x for split in records.values() for name, x in split.items()}
    assert len(examples) == 40
    (example,) = (x for name, x in examples.items() if name.endswith("ward2/002.png"))
    assert (example["label"], example["finding"], example["patient_id"]) == (1, 1, b"p1")
    assert example["states"].shape == (0,)
    patients = [{x["patient_id"] for x in split.values()} for split in records.values()]
    assert len(set.union(*patients)) == sum(map(len, patients)) == 20


def test_builds_several_findings(tmp_path: Path) -> None:
    source = draw_findings(tmp_path / "source")
    settings: dict[str, Any] = {"table": str(source / "labels.csv"), "label": list(FINDINGS)}
    builder = build(Builder, source, tmp_path / "data", **settings)
    # What is shared has no folder of this machine.
    assert builder.info.metadata["reader"]["table"] == "labels.csv"
    for path in Path(builder.data_path).glob("*.*"):
        assert os.fsencode(source) not in path.read_bytes(), path.name
    assert tuple(builder.info.features["label"].names) == FINDINGS
    assert builder.info.metadata["several_findings"] is True
    records = read(builder.data_path)
    examples = {
        name.rpartition("/")[2]: x for split in records.values() for name, x in split.items()
    }
    assert examples["000.png"]["states"].tolist() == [1, 1, 1]
    assert examples["002.png"]["states"].tolist() == [-1, 0, 1]
    assert examples["011.png"]["states"].tolist() == [-2, 0, -1]
    assert {x["label"] for x in examples.values()} == {-1}
    report = json.loads((Path(builder.data_path) / "build_report.json").read_text("utf-8"))
    assert set(report["splits"]["train"]["classes"]) >= set(FINDINGS)


def test_asks_for_the_table(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "source")
    with pytest.raises(
        MissingData, match=r'seem to be in labels\.csv(.|\n)*"table": "labels\.csv"'
    ):
        build(Builder, source, tmp_path / "data")
    assert not published(tmp_path / "data")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"table": "missing.csv"}, r"missing\.csv"),
        ({"table": "labels.csv", "label": "diagnose"}, "Did you mean 'diagnosis'"),
        ({"table": "labels.csv", "label": "diagnosis", "negative": "Clear"}, "negative='Clear'"),
        ({"table": "labels.csv", "label": "diagnosis", "window": "lung"}, "8-bit|8 bit"),
    ],
)
def test_refuses_bad_settings(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "source")
    with pytest.raises(InputError, match=message):
        build(Builder, source, tmp_path / "data", **settings)
    assert not published(tmp_path / "data")


def _keep_one_image(source: Path) -> None:
    lines = (source / "labels.csv").read_text(encoding="utf-8").splitlines()
    rare = [line for line in lines if ",TB," in line]
    (source / "labels.csv").write_text(
        "\n".join(line for line in lines if line not in rare[1:]), encoding="utf-8"
    )


def _state_in_one_column(source: Path) -> None:
    text = (source / "labels.csv").read_text(encoding="utf-8")
    lines = text.replace("diagnosis", "Diagnosis").splitlines()
    (source / "labels.csv").write_text(
        "\n".join([lines[0], *(line.replace("Normal", "TB") for line in lines[1:])]),
        encoding="utf-8",
    )


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (_keep_one_image, {}, r"TB has too few images .* 1, in 1 group .* None is left for"),
        (_state_in_one_column, {}, r"All rows have the label TB\. Expected two or more classes"),
        (lambda _: None, {"patient": "diagnosis"}, "has too few images .* 20, in 1 group"),
        (lambda _: None, {"window": "lung"}, r"(?s)40 unusable files:.*an image of 8 bits"),
        (lambda _: None, {"exclude": ["*"]}, "all images of the table are left out"),
        (lambda _: None, {"split": "source"}, "the source has no splits of its own"),
        (
            lambda _: None,
            {"classes": {"A": ["Normal"], "B": ["TB", "normal"]}},
            "classes: 'normal' is in A and B",
        ),
    ],
)
def test_refuses_odd_sources(
    change: Callable[[Path], None], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source = draw_classes(tmp_path / "source")
    change(source)
    with pytest.raises(InputError, match=message):
        build(Builder, source, tmp_path / "data", table="labels.csv", **settings)
    assert not published(tmp_path / "data")


def test_reads_labels_that_differ_in_case_and_spaces(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "source")
    text = (source / "labels.csv").read_text(encoding="utf-8")
    (source / "labels.csv").write_text(text.replace("TB,p1", " tb ,p1"), encoding="utf-8")
    builder = build(Builder, source, tmp_path / "data", table="labels.csv")
    assert builder.info.features["label"].names == ["Normal", "tb"]
    report = json.loads((builder.data_path / "build_report.json").read_text(encoding="utf-8"))
    assert any(
        "differ only in case or spaces are one class: 'tb' = 'TB'" in n for n in report["notes"]
    )
