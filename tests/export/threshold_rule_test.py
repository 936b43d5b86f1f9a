"""The threshold of a finished run is chosen again: `--threshold-rule`, and 0.5 in RGB files."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from cxr_tfds.commands.evaluate import evaluate
from cxr_tfds.errors import InputError
from cxr_tfds.export.command import export
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.model_file import read_model
from cxr_tfds.export.edge.runtime import load
from cxr_tfds.export.inference import pick_images
from cxr_tfds.export.pack import Limits, export_run
from cxr_tfds.reading.run_data import open_run_dataset
from cxr_tfds.run_folder import RunConfig

pytestmark = pytest.mark.slow

ANY = Limits(max_auc_drop=1, min_agreement=0)


def run_command(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def images_of(run, split):
    dataset = open_run_dataset(RunConfig.read(run))
    return pick_images(dataset, split, np.arange(dataset.sizes[split]))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_evaluate_measures_at_another_threshold_and_writes_nothing(run):
    before = contents(run)
    rates = {}
    for rule in ("0.001", "0.999"):
        done = run_command(evaluate, run, "--json", "--threshold-rule", rule)
        assert done.exit_code == 0, done.output
        metrics = json.loads(done.stdout)
        assert metrics["threshold"] == float(rule)
        rates[rule] = metrics["sensitivity"]["value"]
    assert rates["0.001"] > rates["0.999"]
    assert contents(run) == before


def test_evaluate_refuses_a_wrong_rule(run):
    done = run_command(evaluate, run, "--threshold-rule", "sensitivity>95")
    assert done.exit_code == 1
    assert "expected youden, youden-stress, sensitivity>=X or X" in done.output


@pytest.mark.parametrize("rule", ["sensitivity>=0.99", "0.9"])
def test_export_chooses_the_threshold_again(run, tmp_path, converted, rule):
    before = contents(run)
    limits = ("--max-auc-drop", 1, "--min-agreement", 0, "--runtime", "litert")
    done = run_command(
        export, run, "--out", tmp_path, "--format", "float32", "--threshold-rule", rule, *limits
    )
    assert done.exit_code == 0, done.output
    (path,) = tmp_path.glob("*.tflite")
    model = Classifier(path)
    if rule == "0.9":
        assert model.threshold == pytest.approx(0.9, abs=0.05)
    else:
        points = {x["rule"]: x for x in model.info.operating_points["PNEUMONIA"]}
        assert model.info.metrics["validation"]["accuracy"] is not None
        assert model.threshold == pytest.approx(points[rule]["threshold"], abs=0.05)
    assert model.info.run["threshold_rule"] == rule
    assert f"rule {rule} chose on validation" in " ".join(read_model(path).card.split())
    assert contents(run) == before


def test_points_are_of_the_exported_models_own_scores(run, exported):
    dataset = open_run_dataset(RunConfig.read(run))
    model = Classifier(exported / "tiny-int8.tflite")
    labels = np.array([model.labels.index(x) for x in validation_labels(dataset)])
    scores = np.array([model.predict(x).probability for x in images_of(run, "validation")])
    points = model.info.operating_points["PNEUMONIA"]
    assert len(points) == 8
    for point in points:
        predicted = scores >= point["threshold"]
        assert point["sensitivity"] == pytest.approx(predicted[labels == 1].mean())
        assert point["specificity"] == pytest.approx((~predicted)[labels == 0].mean())
        assert (point["positives"], point["negatives"]) == (labels.sum(), (labels == 0).sum())


def validation_labels(dataset):
    from cxr_tfds.reading.sequential import read_columns

    return [dataset.labels[x] for x in read_columns(dataset, "validation", "label")["label"]]


@pytest.mark.parametrize("kind", ["float32", "int8"])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_top_class_of_an_rgb_file_is_the_decision(run, exported_rgb, kind, split):
    """Any client that takes the most probable class, or 0.5, decides as `Classifier` does."""
    path = exported_rgb / f"tiny-{kind}-rgb.tflite"
    model, session = Classifier(path), load(read_model(path).flatbuffer, "litert")
    threshold = model.threshold
    assert model.info.shift == pytest.approx(np.log(threshold / (1 - threshold)), abs=1e-5)
    decided = []
    for image in images_of(run, split):
        pixels = image.repeat(3, axis=-1)
        probabilities = session.run(pixels[np.newaxis])
        own = model.predict(pixels)
        assert own.label == model.labels[int(np.argmax(probabilities))]
        assert (probabilities[1] >= 0.5) == (own.label == "PNEUMONIA")
        decided.append(own.label)
    assert len(set(decided)) == 2  # otherwise the test shows nothing


def test_an_extreme_threshold_still_becomes_one_half(run, tmp_path):
    (file,) = export_run(
        run, tmp_path, ("float32",), variant="rgb", threshold_rule="0.9", limits=ANY
    )
    model, session = Classifier(file.path), load(read_model(file.path).flatbuffer, "litert")
    assert model.threshold > 0.7
    plain = Classifier(file.path, threshold=0.5)
    changed = 0
    for image in images_of(run, "test"):
        pixels = image.repeat(3, axis=-1)
        top = model.labels[int(np.argmax(session.run(pixels[np.newaxis])))]
        assert top == model.predict(pixels).label
        changed += top != plain.predict(pixels).label
    assert changed > 0
    card = read_model(file.path).card
    assert "0.5, and the most probable class, is the decision" in " ".join(card.split())
    assert b"Shifted: 0.5 is the decision threshold." in file.path.read_bytes()


def test_findings_of_an_rgb_file_are_decided_at_one_half(findings_run, exported_findings):
    path = exported_findings / "several-float32-rgb.tflite"
    model, session = Classifier(path), load(read_model(path).flatbuffer, "litert")
    assert len(model.info.shift) == len(model.labels)
    for image in images_of(findings_run, "validation"):
        pixels = image.repeat(3, axis=-1)
        values = session.run(pixels[np.newaxis])
        assert [x.is_present for x in model.predict(pixels).findings] == (values >= 0.5).tolist()


def test_findings_carry_points_of_their_own(exported_findings):
    model = Classifier(exported_findings / "several-int8.tflite")
    points = model.info.operating_points
    assert list(points) == list(model.labels)
    judged = [name for name, found in points.items() if found]
    assert judged
    sensitive = Classifier(exported_findings / "several-int8.tflite", sensitivity=0.8)
    for name, threshold in zip(sensitive.labels, sensitive.threshold, strict=True):
        if name in judged:
            assert threshold in [point["threshold"] for point in points[name]]


def test_python_names_the_classes(run):
    config = RunConfig.read(run)
    assert config.labels == ("NORMAL", "PNEUMONIA")
    with pytest.raises(InputError, match="threshold_rule='often'"):
        export_run(run, run.parent / "never", ("float32",), threshold_rule="often")
