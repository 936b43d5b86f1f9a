"""`cxr-export`: what is published, how close it stays to Keras, and what is not published."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError
from cxr_tfds.evaluation import Scores, dataset_of, probabilities, score
from cxr_tfds.export import check, pack
from cxr_tfds.export.command import export
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.model_file import read_model
from cxr_tfds.reading import load_split
from cxr_tfds.run_folder import RunConfig

FILES = ["export.json", "tiny-float32.tflite", "tiny-int8.tflite"]
LENIENT = ["--min-agreement", "0", "--max-auc-drop", "1"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def invoke(*args):
    return CliRunner().invoke(export, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def dataset(run):
    return dataset_of(RunConfig.read(run))


@pytest.fixture(scope="module")
def keras_scores(run, dataset):
    return score(run_folder.load_model(run), dataset, "test")


@pytest.fixture
def spoiled(run, tmp_path):
    """A copy of the run to spoil."""
    return shutil.copytree(run, tmp_path / "tiny")


def test_names_and_sizes(exported):
    assert names(exported) == FILES
    int8, float32 = ((exported / f"tiny-{kind}.tflite").stat().st_size for kind in ("int8", "float32"))
    assert int8 < 0.4 * float32


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_the_card_says_what_a_device_must_know(exported, run, kind):
    config = RunConfig.read(run)
    _, card = read_model(exported / f"tiny-{kind}.tflite")
    table = {row["quantization"]: row for row in json.loads((exported / "export.json").read_text(encoding="utf-8"))}[
        kind
    ]
    assert (card.labels, card.size, card.channels, card.fit) == (("NORMAL", "PNEUMONIA"), 64, 1, "stretch")
    assert (card.quantization, card.temperature) == (kind, 1.0)
    assert card.threshold == table["threshold"]
    assert card.dataset == config.dataset
    assert card.run == {"name": "tiny", "model": "edge", "environment": config.environment}
    for split in ("validation", "test"):
        assert card.metrics[split] == {name: table["comparisons"][split][name] for name in ("auc", "accuracy")}
    assert table["path"] == f"tiny-{kind}.tflite"
    assert table["size_bytes"] == (exported / table["path"]).stat().st_size
    assert table["runtime"] == "litert"


@pytest.mark.parametrize(("kind", "dtype"), [("int8", np.int8), ("float32", np.float32)])
def test_tensors_in_and_out(exported, kind, dtype):
    from ai_edge_litert.interpreter import Interpreter

    flatbuffer, _ = read_model(exported / f"tiny-{kind}.tflite")
    runner = Interpreter(model_content=flatbuffer).get_signature_runner("serving_default")
    image, logits = runner.get_input_details()["image"], runner.get_output_details()["logits"]
    assert image["shape"].tolist() == [1, 64, 64, 1]
    assert logits["shape"].tolist() == [1, 1]
    assert image["dtype"] == logits["dtype"] == dtype
    if kind == "int8":  # a pixel less 128: nothing is lost on the way in
        scale, zero_point = image["quantization"]
        assert scale == pytest.approx(1, abs=0.02)
        assert zero_point == -128


def test_float32_logits_are_those_of_keras(exported, dataset, keras_scores):
    flatbuffer, _ = read_model(exported / "tiny-float32.tflite")
    logits = check.exported_logits(flatbuffer, load_split(dataset, "test").images)
    np.testing.assert_allclose(logits, keras_scores.logits, atol=1e-4)


def test_int8_decides_as_keras(exported, dataset, keras_scores):
    flatbuffer, card = read_model(exported / "tiny-int8.tflite")
    logits = check.exported_logits(flatbuffer, load_split(dataset, "test").images)
    assert np.abs(probabilities(logits) - keras_scores.probabilities).max() < 0.06
    agreement = ((probabilities(logits) >= card.threshold) == (keras_scores.probabilities >= card.threshold)).mean()
    assert agreement >= 0.95
    assert len(np.unique(logits)) > 10  # not stuck at the ends of a range


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_files_of_the_source_get_the_decision_of_keras(exported, run, phantom, dataset, keras_scores, kind):
    classifier = Classifier(exported / f"tiny-{kind}.tflite")
    labels = RunConfig.read(run).labels
    images = dict(zip(keras_scores.image_ids, load_split(dataset, "test").images, strict=True))
    sure = np.abs(keras_scores.probabilities - classifier.card.threshold) > 0.06  # the step of int8
    assert sure.sum() >= 20
    for image_id, probability, is_sure in zip(keras_scores.image_ids, keras_scores.probabilities, sure, strict=True):
        file = phantom / "chest_xray" / image_id
        np.testing.assert_array_equal(classifier.pixels(file), images[image_id])
        prediction = classifier(file)
        assert prediction.probability == pytest.approx(probability, abs=1e-4 if kind == "float32" else 0.06)
        if is_sure:
            assert prediction.label == labels[int(probability >= classifier.card.threshold)]


def test_the_same_run_gives_the_same_bytes(run, exported, tmp_path):
    pack.export_run(run, tmp_path, ("int8", "float32"), max_auc_drop=1, min_agreement=0)
    for name in FILES[1:]:
        assert (tmp_path / name).read_bytes() == (exported / name).read_bytes()


@pytest.mark.parametrize("count", [2, 20, 10_000])
def test_calibration_images_are_as_many_of_each_class_and_from_train(dataset, count):
    chosen = pack.calibration_images(dataset, count)
    assert chosen.dtype == np.uint8
    train = load_split(dataset, "train")
    label_of = {image.tobytes(): label for image, label in zip(train.images, train.labels, strict=True)}
    labels = [label_of[image.tobytes()] for image in chosen]
    there = np.bincount(train.labels)
    assert np.bincount(labels).tolist() == [min(count // 2, n) for n in there]
    assert len({image.tobytes() for image in chosen}) == len(chosen)
    np.testing.assert_array_equal(chosen, pack.calibration_images(dataset, count))


def test_the_command_prints_a_line_for_each_format_and_split(run, tmp_path):
    out = tmp_path / "out"
    result = invoke(run, "--out", out, "--format", "float32", "--format", "float32", *LENIENT)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[:3:2] for line in lines[1:3]] == [["float32", "validation"], ["float32", "test"]]
    assert lines[-2:] == ["run in: litert", str(out / "tiny-float32.tflite")]
    assert "converting to float32" in result.stderr
    assert names(out) == ["export.json", "tiny-float32.tflite"]


def test_a_folder_that_holds_something_is_refused(run, tmp_path):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    result = invoke(run, "--out", tmp_path)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {tmp_path} exists and is not empty. Choose another folder, or give --overwrite to replace what "
        "stands there.\n"
    )
    result = invoke(run, "--out", tmp_path, "--overwrite", "--format", "float32", *LENIENT)
    assert result.exit_code == 0, result.output
    assert names(tmp_path) == ["export.json", "notes.txt", "tiny-float32.tflite"]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"min_agreement": 1.01}, r"on validation it agrees on \d+\.\d\d% of the decisions; 101\.00% are needed\."),
        ({"max_auc_drop": -1.0}, r"on validation its AUC is 0\.\d{4} against 0\.\d{4}; -1\.0 may be lost\."),
    ],
)
def test_a_format_that_loses_too_much_is_not_published(run, tmp_path, limits, said):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=rf"^tiny-float32\.tflite was not published: {said}$"):
        pack.export_run(run, out, ("float32",), **limits)
    assert not out.exists()


def test_one_bad_format_keeps_the_good_one_back(run, tmp_path, monkeypatch):
    convert = pack.to_tflite

    def broken(model, quantization, calibration):
        if quantization == "int8":  # as if calibrated on nothing but darkness
            calibration = np.zeros_like(calibration)
        return convert(model, quantization, calibration)

    monkeypatch.setattr(pack, "to_tflite", broken)
    out = tmp_path / "out"
    result = invoke(run, "--out", out)
    assert result.exit_code == 1
    assert "Error: tiny-int8.tflite was not published: on validation " in result.stderr
    assert "converting to int8" in result.stderr
    assert not out.exists()


def test_an_unfinished_run_is_refused(spoiled, tmp_path):
    (spoiled / "model.keras").unlink()
    result = invoke(spoiled, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{spoiled / 'model.keras'} does not exist: the run did not finish." in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_dataset_with_other_examples_is_refused(spoiled, tmp_path):
    config = RunConfig.read(spoiled)
    dataclasses.replace(config, dataset={**config.dataset, "fingerprint": "0" * 64}).write(spoiled)
    result = invoke(spoiled, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "holds other examples than the run was trained on" in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--format", "int4", "'int4' is not one of 'int8', 'float32'. Did you mean 'int8'?"),
        ("--calibration", "1", "1 is not in the range x>=2."),
        ("--min-agreement", "1.5", "1.5 is not in the range 0<=x<=1."),
    ],
)
def test_wrong_usage(run, tmp_path, option, value, said):
    result = invoke(run, "--out", tmp_path / "out", option, value)
    assert result.exit_code == 2
    assert said in result.stderr


def scores(labels, logits):
    return Scores([], [], np.array(labels), np.array(logits, np.float32))


def test_comparison_worked_by_hand():
    mine = scores([0, 0, 1, 1], [-2, 1, -1, 2])  # probabilities 0.12, 0.73, 0.27, 0.88
    other = np.array([-2, -1, -1, 0], np.float32)
    found = check.compare(mine, other, 0.5, 0.5)
    assert (found.images, found.agreement, found.accuracy_keras, found.accuracy) == (4, 0.75, 0.5, 0.75)
    assert (found.auc_keras, found.auc) == (0.75, 0.875)
    assert found.max_difference == pytest.approx(0.4621172)  # sigmoid(1) - sigmoid(-1)
    assert found.mean_difference == pytest.approx((0.4621172 + 0.8807971 - 0.5) / 4)


def test_comparison_of_three_classes():
    mine = scores([0, 1, 2], [[2, 0, 0], [0, 2, 0], [0, 2, 0]])
    other = np.array([[2, 0, 0], [0, 2, 0], [0, 0, 2]], np.float32)
    found = check.compare(mine, other, None, None)
    assert (found.auc, found.auc_keras) == (None, None)
    assert found.agreement == pytest.approx(2 / 3)
    assert (found.accuracy_keras, found.accuracy) == (pytest.approx(2 / 3), 1)
    assert check.matching_threshold(mine, other, None) is None


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([-3, -2, 2, 3], 0.5),  # every decision agrees: Keras's own
        ([-3, 0.5, 1.5, 3], 0.7),  # shifted: between the two in the middle
        ([0, 0, 0, 0], 0.25),  # constant: everything alike
    ],
)
def test_matching_threshold(logits, expected):
    mine = scores([0, 0, 1, 1], [-3, -2, 2, 3])
    found = check.matching_threshold(mine, np.array(logits, np.float32), 0.5)
    assert found == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"auc": 0.894}, "its AUC is 0.8940 against 0.9000; 0.005 may be lost"),
        ({"auc": 0.896}, None),
        ({"auc": 0.95}, None),  # better is no loss
        ({"agreement": 0.9799}, "it agrees on 97.99% of the decisions; 98.00% are needed"),
        ({"auc": None, "auc_keras": None}, None),
    ],
)
def test_the_gate(changes, why):
    good = check.Comparison(100, 0.98, 0.9, 0.9, 0.8, 0.8, 0.1, 0.01)
    assert check.failure(dataclasses.replace(good, **changes), 0.005, 0.98) == why
