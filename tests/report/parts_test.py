"""Parts of the report: dataset summary, model card, plots and layer table."""

import dataclasses
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers.json_files import BUILD_REPORT

from cxr_tfds.evaluation.scoring import ImageSample, Scores
from cxr_tfds.metrics.summary import evaluate_split
from cxr_tfds.models import build_model
from cxr_tfds.plotting import plot_style
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.names import DatasetName
from cxr_tfds.report import model_card, page
from cxr_tfds.report.dataset import DatasetSummary, SplitSummary, summarize_dataset
from cxr_tfds.report.gallery import collect_examples
from cxr_tfds.report.plots import plot_scores, plot_training
from cxr_tfds.run_folder import RunConfig, read_history
from cxr_tfds.sources.origin import DRAWN, describe_origin

CONFIG = RunConfig(
    settings={"model": "unlisted"},
    dataset={"name": "d", "fingerprint": "f"},
    labels=("NORMAL", "PNEUMONIA"),
    shape=(64, 64, 1),
    fit="stretch",
    precision="float32",
    environment={},
    threshold=0.5,
)


def test_layer_table_of_edge():
    model = build_model("edge", (64, 64, 1), 1)
    rows = page._layer_rows(model)
    assert rows[0][1:] == ("InputLayer", "64 \u00d7 64 \u00d7 1", 0)
    first = next(row for row in rows if row[1] == "Conv2D")
    assert first[2:] == ("16 \u00d7 16 \u00d7 32", 7 * 7 * 32)
    assert rows[-1] == ("logits", "Dense", "1", model.layers[-1].count_params())
    assert sum(row[3] for row in rows) == model.count_params()


def test_layer_table_has_nested_models_and_unknown_sizes():
    pixels = keras.Input((None, 32, 1))
    inner = keras.Sequential([keras.layers.Conv2D(4, 3, name="conv")], name="inner")
    rows = page._layer_rows(keras.Model(pixels, inner(pixels)))
    assert rows[1] == ("inner", "Sequential", "? \u00d7 30 \u00d7 4", 40)


@pytest.fixture
def dataset(built, tmp_path):
    shutil.copytree(built, tmp_path / "data")
    return open_dataset(DatasetName.parse("chest_xray_pneumonia/64"), tmp_path / "data")


def folder_of(dataset):
    return Path(dataset.shards["test"][0]).parent


def test_summary_counts_every_split(dataset):
    summary = summarize_dataset(dataset)
    assert summary.splits.keys() == {"train", "validation", "test"}
    train = summary.splits["train"]
    assert train.images == dataset.sizes["train"] == sum(train.classes.values())
    assert sum(train.findings.values()) == train.classes["PNEUMONIA"]
    assert train.without_patient == 0


def published(dataset):
    """The same dataset, as if its images were not drawn."""
    return dataclasses.replace(dataset, origin=describe_origin(None))


def test_summary_has_the_texts_of_a_published_dataset(dataset):
    summary = summarize_dataset(published(dataset))
    assert "Kermany" in summary.source
    assert "physicians" in summary.label_source
    assert any("aspect ratio" in warning for warning in summary.warnings)


def test_drawn_images_do_not_get_the_texts_of_the_published_dataset(dataset):
    summary = summarize_dataset(dataset)
    assert (summary.source, summary.label_source) == ("", "")
    lines = data_lines(summary)
    assert lines[:2] == [DRAWN, f"Description: {dataset.origin['description']}"]
    assert "show nobody" in lines[1]


def test_what_nobody_described_is_not_described(dataset):
    summary = summarize_dataset(published(dataset))._replace(source="", label_source="")
    texts = ["Description", "Licence", "Population"]
    assert data_lines(summary)[:3] == [f"{name}: not described." for name in texts]


def data_lines(summary):
    return model_card._data(CONFIG, summary)


def test_summary_has_warnings_of_the_build_report(dataset):
    shortcut = BUILD_REPORT["shortcuts"][0]
    duplicates = BUILD_REPORT["duplicates"] | {"across_splits": [["a", "b"], ["c", "d"]]}
    report = BUILD_REPORT | {
        "shortcuts": [shortcut | {"text": "JPEG quality alone predicts the class"}],
        "duplicates": duplicates,
    }
    (folder_of(dataset) / "build_report.json").write_text(json.dumps(report), encoding="utf-8")
    summary = summarize_dataset(dataset)
    assert summary.warnings[:3] == [
        "JPEG quality alone predicts the class",
        "patients in two splits: 1",
        "groups of identical files in two splits: 2",
    ]
    assert summary.searched_for_shortcuts
    assert "Dataset warning: JPEG quality alone predicts the class." in limitations(summary)


@pytest.mark.parametrize(
    "content", [None, "{", "\x00", '{"shortcuts": null}', '{"patients": {}, "duplicates": {}}']
)
def test_model_card_without_build_report_and_description(dataset, content):
    folder = folder_of(dataset)
    for path in folder.glob("build_report*"):
        path.unlink()
    if content is not None:
        (folder / "build_report.json").write_text(content, encoding="utf-8")
    (folder / "dataset_info.json").write_text("{}", encoding="utf-8")
    summary = summarize_dataset(published(dataset))
    corrupt = (
        ["dataset_info.json"] if content is None else ["dataset_info.json", "build_report.json"]
    )
    assert summary.source == ""
    assert summary.warnings == [f"{name} of the dataset is corrupt" for name in corrupt]
    assert not summary.searched_for_shortcuts
    lines = limitations(summary)
    assert (
        "The dataset was not checked for properties outside the lungs that separate the classes."
        in lines
    )


def limitations(summary, split="test", **changes):
    table = {
        "sensitivity": {"value": 0.9},
        "specificity": {"value": 0.9},
        "confusion_matrix": {"tn": 9, "fp": 1, "fn": 1, "tp": 9},
        "images": 20,
        **changes,
    }
    return model_card._limitations(CONFIG, split, table, summary)


NOTHING = DatasetSummary({}, describe_origin(None), "", "", [], True)


def test_positive_predictions_where_the_finding_is_rare():
    """At 10%: 9 correct of 18 positive predictions in 100 people; at 1%: 0.9 of 10.8."""
    text = limitations(NOTHING)[-1]
    assert text == (
        "50% of the measured images show PNEUMONIA. At the same sensitivity and specificity, the "
        "share of correct positive predictions would be 8% if 1% of people had it and 50% if 10% "
        "of people had it."
    )


@pytest.mark.parametrize(("sensitivity", "specificity"), [(0.9, None), (None, 0.9), (0, 1)])
def test_no_sentence_without_positive_predictions(sensitivity, specificity):
    changes = {"sensitivity": {"value": sensitivity}, "specificity": {"value": specificity}}
    assert not any("positive predictions" in line for line in limitations(NOTHING, **changes))


@pytest.mark.parametrize("unknown", [0, 1])
def test_limitations_mention_unknown_patients(unknown):
    splits = {"train": SplitSummary(3, 1, unknown, {}, {})}
    lines = limitations(NOTHING._replace(splits=splits))
    assert any(line.startswith("The patients of some images are") for line in lines) == unknown


def test_limitations_without_warnings_and_test_split():
    lines = limitations(NOTHING, "validation")
    assert any(line.startswith("The build found no file property, such as") for line in lines)
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
        (
            "epoch,loss,accuracy,val_loss,val_auc,val_accuracy\n1,0.5,0.6,0.6,0.7,0.5\n",
            ["loss", "accuracy", "metrics"],
        ),
        (
            "epoch,loss,accuracy,val_loss,val_accuracy\n1,0.5,0.6,0.6,0.5\n",
            ["loss", "accuracy"],
        ),
        ("epoch,loss,val_loss\n1,0.5,cut", []),
    ],
)
def test_training_plots_of_any_history(tmp_path, content, pictures):
    if content is not None:
        (tmp_path / "history.csv").write_text(content, encoding="utf-8")
    with plot_style():
        assert [picture.name for picture in plot_training(read_history(tmp_path))] == pictures


@pytest.mark.slow
def test_plots_of_three_classes_of_which_one_is_missing():
    """The AUC is undefined, but the curves of the other classes are drawn."""
    labels = np.array([0, 1, 0, 1])
    scores = Scores(list("abcd"), [""] * 4, labels, np.eye(3, dtype=np.float32)[labels])
    table = evaluate_split(labels, scores.probabilities, None, class_names=("x", "y", "z"))
    with plot_style():
        pictures = {
            picture.name: picture.caption
            for picture in plot_scores(scores, table, ("x", "y", "z"), None)
        }
    assert pictures.keys() == {"confusion", "roc", "precision-recall", "scores", "reliability"}
    assert pictures["roc"].startswith("AUC undefined: no image is labelled z.")


def collect(labels, logits):
    """Groups and sheets of blank images; a model without pooling has no activation maps."""
    count = len(labels)
    scores = Scores(
        list(map(str, range(count))), [""] * count, labels, np.float32(logits), temperature=3.0
    )
    sample = ImageSample(np.arange(count), np.zeros((count, 4, 4, 1), np.uint8))
    pixels = keras.Input((4, 4, 1))
    model = keras.Model(pixels, keras.layers.Flatten()(pixels))
    return collect_examples(model, scores, sample, ("NORMAL", "SICK"), 0.5)


def test_errors_are_sorted_by_confidence():
    """At threshold 0.5, the distance from logit 0 is the confidence, whatever the temperature."""
    labels = np.array([0] * 10 + [1] * 3)
    groups, sheets = collect(labels, [*range(1, 11), -1, 2, 1])
    assert [(group.title, group.total) for group in groups] == [
        ("False negatives: SICK predicted as NORMAL", 1),
        ("False positives: NORMAL predicted as SICK", 10),
        ("Correct: SICK", 2),
    ]
    assert [example.image_id for example in groups[1].examples] == list("98765432")
    assert [example.image_id for example in groups[2].examples] == ["11", "12"]
    example = groups[0].examples[0]
    assert (example.true_class, example.predicted_class) == ("SICK", "NORMAL")
    assert not groups[0].correct
    assert example.probability == pytest.approx(1 / (1 + np.exp(1 / 3)))
    names = [sheet.name for sheet in sheets]
    assert names == ["false-negatives", "false-positives", "correct-1"]


def test_correct_examples_are_spread_over_the_confidence():
    groups, _ = collect(np.ones(10, int), range(1, 11))
    assert [example.image_id for example in groups[0].examples] == ["9", "6", "3", "0"]
