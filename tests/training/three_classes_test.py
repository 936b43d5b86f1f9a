"""Three classes through training, evaluation, export and prediction on the device."""

import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from helpers.splits import load_split
from helpers.tampering import edit_json

from cxr_tfds import run_folder
from cxr_tfds.commands.evaluate import evaluate
from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.scoring import score
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.pack import Limits, export_run
from cxr_tfds.metrics.logits import probabilities
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.names import DatasetName
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.training.run import train

pytestmark = pytest.mark.slow

NAME = "chest_xray_pneumonia/64"
LABELS = ("NORMAL", "BACTERIA", "VIRUS")
VERSION = "fingerprint_version"


@pytest.fixture(scope="module")
def data_dir(built, tmp_path_factory):
    """Copies the drawn dataset and makes its findings the labels.

    It becomes a dataset of an earlier version, whose labels `fingerprint.json` does not keep.
    """
    copy = shutil.copytree(built, tmp_path_factory.mktemp("three") / "data")
    (label_file,) = copy.rglob("label.labels.txt")
    label_file.write_text("".join(f"{label}\n" for label in LABELS), encoding="utf-8")
    (features,) = copy.rglob("features.json")
    described = json.loads(features.read_text(encoding="utf-8"))
    described["featuresDict"]["features"]["label"]["classLabel"]["numClasses"] = "3"
    features.write_text(json.dumps(described), encoding="utf-8")
    for shard in copy.rglob("*.tfrecord*"):
        records = [record.numpy() for record in tf.data.TFRecordDataset(str(shard))]
        with tf.io.TFRecordWriter(str(shard)) as writer:
            for record in records:
                example = tf.train.Example.FromString(record)
                fields = example.features.feature
                fields["label"].int64_list.value[:] = fields["finding"].int64_list.value
                writer.write(example.SerializeToString())
    (fingerprint,) = copy.rglob("fingerprint.json")
    fingerprint.unlink()
    edit_json(fingerprint.with_name("metadata.json"), lambda content: content.pop(VERSION))
    return copy


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "three"
    train(NAME, folder, data_dir=data_dir, epochs=3, batch_size=8, augment="none")
    return folder


@pytest.fixture(scope="module")
def dataset(data_dir):
    return open_dataset(DatasetName.parse(NAME), data_dir)


def test_dataset_has_three_classes(dataset):
    assert dataset.labels == LABELS
    for split in ("train", "validation", "test"):
        assert set(load_split(dataset, split).labels) == {0, 1, 2}


def test_run_has_no_threshold_and_a_complete_report(run):
    config = RunConfig.read(run)
    assert (config.labels, config.threshold) == (LABELS, None)
    measured = run_folder.read_metrics(run)
    for table in measured.values():
        assert table["threshold"] is None
        assert {"auc", "accuracy", "balanced_accuracy"} <= set(table)
        assert table["brier"]["low"] < table["brier"]["high"]
    history = (run / "history.csv").read_text(encoding="utf-8")
    assert history.startswith("epoch,loss,accuracy,val_loss,val_accuracy,learning_rate\n")
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "NORMAL / BACTERIA / VIRUS" in report
    assert "is predicted from a probability" not in report


@pytest.mark.parametrize("rule", ["youden", "0.4"])
def test_refuses_a_threshold_rule_before_training(data_dir, tmp_path, rule):
    message = (
        f"--threshold-rule {rule} needs two classes, but chest_xray_pneumonia/64:1.0.0 has 3 "
        "(NORMAL, BACTERIA, VIRUS) and predicts the most probable. Omit the option."
    )
    with pytest.raises(InputError, match=re.escape(message)):
        train(NAME, tmp_path / "run", data_dir=data_dir, batch_size=8, threshold_rule=rule)
    assert not (tmp_path / "run").exists()


def test_evaluate_repeats_the_metrics(run):
    before = run_folder.read_metrics(run)
    result = CliRunner().invoke(evaluate, [str(run)])
    assert result.exit_code == 0, result.output
    assert run_folder.read_metrics(run) == before
    assert "threshold" not in result.stdout


def test_exported_file_predicts_as_keras(run, dataset, phantom, tmp_path):
    model = run_folder.load_model(run)
    assert model.output_shape == (None, 3)
    scores = score(model, dataset, "test")
    assert scores.logits.shape == (40, 3)
    measured = run_folder.read_metrics(run)
    for file in export_run(run, tmp_path, ("float32", "int8"), limits=Limits(1, 0)):
        for split, found in file.comparisons.items():
            assert found.auc_keras == pytest.approx(measured[split]["auc"]["value"], abs=1e-6)
            assert found.auc == pytest.approx(found.auc_keras, abs=0.1)
    for kind, tolerance in (("float32", 1e-4), ("int8", 0.1)):
        classifier = Classifier(tmp_path / f"three-{kind}.tflite")
        assert (classifier.labels, classifier.info.threshold) == (LABELS, None)
        assert (classifier.info.heatmap, classifier.info.grid) == (True, (2, 2))
        calibrated = probabilities(scores.logits / classifier.info.temperature)
        for image_id, expected in zip(scores.image_ids, calibrated, strict=True):
            prediction = classifier(phantom / "chest_xray" / image_id)
            found = list(prediction.probabilities.values())
            assert found == pytest.approx(expected, abs=tolerance)
            if np.diff(np.sort(expected))[-1] > 2 * tolerance:
                assert prediction.label == LABELS[expected.argmax()]
