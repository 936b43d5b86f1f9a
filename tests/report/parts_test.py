"""The parts of the report: the boxes of the diagram, the facts of the data, the card, the history."""

import dataclasses
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from cxr_tfds.evaluation.scoring import Scores
from cxr_tfds.models import build_model
from cxr_tfds.plotting import plot_style
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.names import DatasetName
from cxr_tfds.report import card, history
from cxr_tfds.report.data import DataFacts, facts_of
from cxr_tfds.report.diagram import layer_boxes, picture_of, stages
from cxr_tfds.run_folder import RunConfig


def test_boxes_of_edge():
    model = build_model("edge", (64, 64, 1), 2)
    boxes = layer_boxes(model)
    assert [box.text for box in boxes[:3]] == [
        "image",
        "rescale",
        "Conv 7\u00d77 / 4 \u00b7 BN \u00b7 ReLU",
    ]
    assert (boxes[2].shape, boxes[2].parameters, boxes[2].layers) == (
        (16, 16, 32),
        7 * 7 * 32 + 4 * 32,
        3,
    )
    assert (boxes[-1].text, boxes[-1].shape) == ("Dense 1", (1,))
    assert sum(box.parameters for box in boxes) == model.count_params()
    added = [number for number, box in enumerate(boxes) if box.text.startswith("add")]
    assert [sorted(boxes[number].inputs) for number in added] == [
        [number - 3, number - 1] for number in added
    ]
    assert len(added) == 2


def test_a_deep_model_is_drawn_in_stages():
    pixels = x = keras.Input((64, 64, 1))
    for filters in (4, 8):
        for _ in range(30):
            x = keras.layers.Conv2D(filters, 1)(x)
        x = keras.layers.MaxPooling2D()(x)
    model = keras.Model(pixels, keras.layers.Dense(1)(keras.layers.Flatten()(x)))
    boxes = layer_boxes(model)
    assert len(boxes) == 65
    few = stages(boxes)
    assert [(box.text, box.shape[0]) for box in few[1:4]] == [
        ("30 layers", 64),
        ("31 layers", 32),
        ("max pool", 16),
    ]
    assert sum(box.parameters for box in few) == model.count_params()
    with plot_style():
        assert "stages" not in picture_of(model).caption
        assert picture_of(model).caption.startswith("Layers gathered")


def test_a_nested_model_is_one_box():
    inner = keras.Sequential(
        [keras.Input((32, 32, 1)), keras.layers.Conv2D(4, 3), keras.layers.ReLU()], name="inner"
    )
    pixels = keras.Input((32, 32, 1))
    boxes = layer_boxes(keras.Model(pixels, inner(pixels)))
    assert [(box.text, box.shape) for box in boxes[1:]] == [("inner, 2 layers", (30, 30, 4))]


@pytest.fixture
def dataset(built, tmp_path):
    shutil.copytree(built, tmp_path / "data")
    return open_dataset(DatasetName.parse("chest_xray_pneumonia/64"), tmp_path / "data")


SCORES = Scores(
    ["a", "b", "c"], ["p", "p", ""], np.array([0, 1, 1]), np.zeros(3), ["none", "virus", "bacteria"]
)


def folder_of(dataset):
    return Path(dataset.shards["test"][0]).parent


def test_counts_of_every_split_and_the_description(dataset):
    facts = facts_of(dataset, "test", SCORES)
    assert facts.splits["test"].images == 3  # from the scores: the split is not read again
    assert facts.splits["test"].patients == 1
    assert facts.splits["test"].without_patient == 1
    assert facts.splits["test"].classes == {"NORMAL": 1, "PNEUMONIA": 2}
    assert facts.splits["test"].findings == {"bacteria": 1, "virus": 1}
    train = facts.splits["train"]
    assert train.images == dataset.sizes["train"] == sum(train.classes.values())
    assert sum(train.findings.values()) == train.classes["PNEUMONIA"]
    assert train.without_patient == 0
    assert facts.about.startswith("Frontal chest radiographs of children")
    assert "Kermany" in facts.source
    assert "physicians" in facts.label_source
    assert any("aspect ratio" in warning for warning in facts.warnings)


def test_the_report_of_the_build_is_heard(dataset):
    report = {
        "shortcuts": [{"property": "JPEG quality", "text": "JPEG quality alone tells"}],
        "patients": {"in_two_splits": {"p1": ["train", "test"]}},
        "duplicates": {"across_splits": [["a", "b"], ["c", "d"]]},
    }
    (folder_of(dataset) / "build_report.json").write_text(json.dumps(report), encoding="utf-8")
    facts = facts_of(dataset, "test", SCORES)
    assert facts.warnings[:3] == [
        "JPEG quality alone tells",
        "patients in two splits: 1",
        "groups of identical files in two splits: 2",
    ]
    assert facts.searched


@pytest.mark.parametrize(
    "content", [None, "{", "[]", '{"shortcuts": null}', '{"shortcuts": 3, "patients": 4}', "\x00"]
)
def test_without_report_and_description_there_is_a_card_still(dataset, content):
    folder = folder_of(dataset)
    for path in folder.glob("build_report*"):
        path.unlink()
    if content is not None:
        (folder / "build_report.json").write_text(content, encoding="utf-8")
    (folder / "dataset_info.json").write_text("{}", encoding="utf-8")
    facts = facts_of(dataset, "test", SCORES)
    assert (facts.about, facts.source, facts.warnings, facts.searched) == ("", "", [], False)
    lines = limits(facts)
    assert (
        "Nobody has looked whether something beside the lung tells the classes of this dataset apart."
        in lines
    )
    assert (
        "Of some images the patient is unknown: one patient's images may stand in two splits."
        in lines
    )


def limits(facts, split="test", **changes):
    config = RunConfig(
        settings={"model": "unlisted"},
        dataset={"name": "d", "fingerprint": "f"},
        labels=("NORMAL", "PNEUMONIA"),
        shape=(64, 64, 1),
        fit="stretch",
        precision="float32",
        environment={},
        threshold=0.5,
    )
    table = {
        "sensitivity": {"value": 0.9},
        "specificity": {"value": 0.9},
        "confusion_matrix": {"tn": 9, "fp": 1, "fn": 1, "tp": 9},
        "images": 20,
        **changes,
    }
    sections = card._limits(dataclasses.replace(config), split, table, facts)
    return sections


NOTHING = DataFacts({}, "", "", "", [], True)


def test_what_a_call_is_worth_where_the_finding_is_rare():
    """At 10 %: 9 right of 18 calls in 100; at 1 %: 0.9 of 10.8."""
    text = limits(NOTHING)[-1]
    assert "50% of the images measured here show PNEUMONIA" in text
    assert "where 1% have it, 8% of the calls would be right and where 10% have it, 50%" in text
    undefined = limits(NOTHING, specificity={"value": None})
    assert not any("where 1% have it" in line for line in undefined)


def test_limits_without_warnings_and_without_a_test_split():
    lines = limits(NOTHING, "validation")
    assert (
        "The build found no property of the files, such as size or JPEG quality, that tells the classes."
        in lines
    )
    assert any(line.startswith("There is no test split") for line in lines)


@pytest.mark.parametrize(
    ("content", "pictures"),
    [
        (None, []),
        ("", []),
        ("epoch,loss\n1,0.5\n", []),
        (
            "epoch,loss,val_loss,val_auc,rate\n1,0.5,0.6,0.7,x\n2,0.4,0.5,0.8,y\n",
            ["loss", "metrics"],
        ),
        ("epoch,loss,val_loss\n1,0.5,0.6\n", ["loss"]),
        ("epoch,loss,val_loss\n1,0.5,cut", []),
    ],
)
def test_a_history_of_any_shape(tmp_path, content, pictures):
    if content is not None:
        (tmp_path / "history.csv").write_text(content, encoding="utf-8")
    with plot_style():
        assert [
            picture.name for picture in history.pictures_of(history.read_history(tmp_path))
        ] == pictures
