"""Several findings of an image: exported, proven finding by finding, and run on the device."""

import dataclasses
import json
import re
import shutil

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from helpers.findings import COUNTS, FINDINGS

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.scoring import measure, score
from cxr_tfds.export import pack
from cxr_tfds.export.command import export
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.command import cli
from cxr_tfds.export.edge.model_file import read_model
from cxr_tfds.export.edge.runtime import installed_runtimes
from cxr_tfds.export.inference import predict_split
from cxr_tfds.export.pack import Limits, export_run
from cxr_tfds.reading.run_data import open_run_dataset
from cxr_tfds.run_folder import RunConfig

pytestmark = pytest.mark.slow

LENIENT = Limits(max_auc_drop=1, min_agreement=0)


@pytest.fixture(scope="module")
def scores(findings_run):
    config = RunConfig.read(findings_run)
    model = run_folder.load_model(findings_run)
    return score(model, open_run_dataset(config), "test", config.temperature)


def row_of(folder, name):
    rows = json.loads((folder / "export.json").read_text())["files"]
    (row,) = [row for row in rows if row["path"] == name]
    return row


def test_the_export_reads_the_labels_of_the_evaluation(findings_run, scores):
    dataset = open_run_dataset(RunConfig.read(findings_run))
    labels, _ = predict_split(dataset, "test", lambda images: {"x": np.zeros((len(images), 3))})
    np.testing.assert_array_equal(labels, scores.labels)


def test_model_info_and_export_json(findings_run, exported_findings):
    assert sorted(path.name for path in exported_findings.iterdir()) == [
        "export.json",
        "several-float32-rgb.tflite",
        "several-int8-plain.tflite",
        "several-int8-rgb.tflite",
        "several-int8.tflite",
    ]
    for name in ("several-int8.tflite", "several-int8-plain.tflite", "several-int8-rgb.tflite"):
        _, info, card = read_model(exported_findings / name)
        row = row_of(exported_findings, name)
        assert (info.labels, info.several_findings, info.unknown) == (FINDINGS, True, "ignore")
        assert (list(info.threshold), list(info.temperature)) == (
            row["threshold"],
            row["temperature"],
        )
        assert info.reader["label"] == list(FINDINGS)
        for split in ("validation", "test"):
            table = row["comparisons"][split]
            assert list(table["findings"]) == list(FINDINGS)
            assert table["images"] == COUNTS[split]
            aucs = [each["auc"] for each in table["findings"].values()]
            assert table["auc"] == pytest.approx(np.mean(aucs))
            assert info.metrics[split]["findings"]["Nodule"]["auc"] == aucs[0]
        assert [ran["runtime"] for ran in row["ran"]] == list(installed_runtimes())
        assert all(0.8 <= ran["agreement"] <= 1 for ran in row["ran"])
        for finding, threshold in zip(FINDINGS, info.threshold, strict=True):
            assert f"- {finding} is predicted from a probability of {threshold:.3f};" in card


def test_float32_has_the_decisions_of_keras(findings_run, tmp_path):
    (file,) = export_run(findings_run, tmp_path, ("float32",))
    config = RunConfig.read(findings_run)
    assert file.temperature == pytest.approx(config.temperature, rel=1e-3)
    assert file.threshold == pytest.approx(config.threshold, abs=1e-3)
    for table in file.comparisons.values():
        for each in table.findings.values():
            assert (each.agreement, each.auc) == (1, pytest.approx(each.auc_keras))


def test_device_decides_like_keras(findings_run, findings_source, exported_findings, scores):
    config = RunConfig.read(findings_run)
    expected = scores.decisions(config.threshold)
    files = [findings_source / name.removeprefix("test/") for name in scores.image_ids]
    decided = {}
    for variant in ("", "-plain", "-rgb"):
        classifier = Classifier(exported_findings / f"several-int8{variant}.tflite")
        found = [classifier(path).findings for path in files]
        decided[variant] = np.array([[each.is_present for each in row] for row in found])
        assert ((decided[variant] == expected).mean(axis=0) >= 0.85).all()
    assert (decided[""] == decided["-plain"]).all()


def test_the_heatmap_of_a_finding_explains_its_logit(exported_findings, findings_source):
    classifier = Classifier(exported_findings / "several-int8.tflite")
    temperatures = classifier.info.temperature
    paths = sorted((findings_source / "images").glob("test-*"))[:8]
    offsets = []
    for path in paths:
        findings = classifier(path).findings
        logits = [
            temperature * np.log(each.probability / (1 - each.probability))
            for each, temperature in zip(findings, temperatures, strict=True)
        ]
        offsets.append([each.heatmap.mean() for each in findings] - np.array(logits))
    plain = Classifier(exported_findings / "several-int8-plain.tflite")
    assert {each.heatmap for each in plain(paths[0]).findings} == {None}
    # What remains is the bias of the last layer, equal for all images up to the steps of int8.
    assert np.ptp(offsets, axis=0).max() < 0.2


def test_evaluate_agrees_with_the_evaluation_of_keras(
    findings_run, findings_source, tmp_path, scores
):
    (file,) = export_run(findings_run, tmp_path, ("float32",))
    arguments = ["evaluate", "--json", "--model", str(file.path), str(findings_source)]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    expected = measure(scores, RunConfig.read(findings_run))
    assert found["images"] == expected["images"] == COUNTS["test"]
    for name in FINDINGS:
        mine, its = found["findings"][name], expected["findings"][name]
        assert mine["confusion_matrix"] == its["confusion_matrix"]
        for metric in ("auc", "sensitivity", "brier"):  # intervals depend on the order of images
            assert mine[metric]["value"] == pytest.approx(its[metric]["value"], abs=1e-3)


def test_the_worst_finding_prevents_publishing(findings_run, tmp_path, monkeypatch):
    convert = pack.convert_each

    def convert_without_a_finding(model, *arguments, **options):
        changed = keras.models.clone_model(model)
        weights = model.get_weights()
        weights[-2][:, 1] *= -1
        changed.set_weights(weights)
        return convert(changed, *arguments, **options)

    monkeypatch.setattr(pack, "convert_each", convert_without_a_finding)
    out = tmp_path / "out"
    with pytest.raises(
        InputError,
        match=r"^several-float32\.tflite was not published: on validation for Effusion its AUC is ",
    ):
        export_run(findings_run, out, ("float32",))
    assert not out.exists()


def test_reports_findings_that_cannot_be_judged(findings_run, tmp_path, monkeypatch, capsys):
    predict = pack.predict_split

    def predict_without_devices(*args):
        labels, outputs = predict(*args)
        labels[:, 2] = np.where(labels[:, 2] == 1, np.nan, labels[:, 2])
        return labels, outputs

    monkeypatch.setattr(pack, "predict_split", predict_without_devices)
    (file,) = export_run(findings_run, tmp_path, ("int8",), limits=LENIENT)
    assert capsys.readouterr().err.splitlines()[-1] == (
        "int8: not checked, because validation does not have both present and absent images: Device"
    )
    assert file.comparisons["validation"].findings["Device"].auc is None
    config = RunConfig.read(findings_run)
    assert file.temperature[2] == config.temperature[2]


def test_command_prints_a_row_a_finding(findings_run, tmp_path):
    options = ["--format", "float32", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(export, [str(findings_run), *options])
    assert result.exit_code == 0, result.output
    # A split, and below it each of its findings.
    lines = result.stdout.splitlines()[1:9]
    names = [re.split(r"  +", line)[2] for line in lines]
    assert names == [
        name for split in ("validation", "test") for name in (split, *(f"- {x}" for x in FINDINGS))
    ]


def test_refuses_a_run_with_one_threshold(findings_run, tmp_path):
    copy = shutil.copytree(findings_run, tmp_path / "several")
    dataclasses.replace(RunConfig.read(copy), threshold=0.5).write(copy)
    with pytest.raises(InputError, match="of the run contradict each other"):
        export_run(copy, tmp_path / "out", ("float32",))
