"""Models of several findings on the device: `Classifier`, `predict` and `evaluate`."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest
from helpers.sources import encode
from PIL import Image

from cxr_tfds.errors import InputError
from cxr_tfds.export.edge import runtime
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.evaluate import find_labelled_images
from cxr_tfds.export.edge.heatmaps import HeatmapFolder
from cxr_tfds.export.edge.model_file import append_model_info
from cxr_tfds.metrics.findings import evaluate_findings

pytestmark = pytest.mark.slow

# The logits of the mean grey value v are (100 - v) / 10, 3 and (v - 100) / 10.
FINDINGS = ("Dark", "Always", "Bright")
TABLE = {"table": "t.csv", "label": list(FINDINGS)}
ROWS = {  # name to grey value and cells
    "a.png": (60, "1,1,0"),
    "b.png": (160, "0,1,1"),
    "c.png": (140, "0,,1"),
    "d.png": (80, "1,-1,0"),
    "e.png": (120, "1,1,0"),
}


@pytest.fixture(scope="module")
def findings_info(info):
    return dataclasses.replace(
        info,
        labels=FINDINGS,
        channels=3,
        several_findings=True,
        threshold=(0.5, 0.99, 0.5),
        temperature=(1.0, 2.0, 1.0),
        reader=TABLE,
    )


@pytest.fixture(scope="module")
def findings_model(flatbuffers, findings_info, tmp_path_factory):
    path = tmp_path_factory.mktemp("findings") / "model.tflite"
    path.write_bytes(append_model_info(flatbuffers["three"], findings_info))
    return path


@pytest.fixture
def source(draw, tmp_path):
    """A folder with a table like CheXpert's; of `Always` one state is unknown, one uncertain."""
    for name, (grey, _) in ROWS.items():
        draw(f"images/{name}", grey, folder=tmp_path / "source")
    lines = [f"{name},{name[0]},{cells}" for name, (_, cells) in ROWS.items()]
    text = "\n".join([f"image,patient,{','.join(FINDINGS)}", *lines])
    (tmp_path / "source" / "t.csv").write_text(text)
    return tmp_path / "source"


def test_one_prediction_a_finding(findings_model, draw):
    prediction = Classifier(findings_model)(draw("x.png", 80))
    assert [finding.name for finding in prediction.findings] == list(FINDINGS)
    expected = 1 / (1 + np.exp([-2, -3 / 2, 2]))
    assert list(prediction.probabilities) == list(FINDINGS)
    assert list(prediction.probabilities.values()) == pytest.approx(expected, abs=0.02)
    assert prediction.probability == max(prediction.probabilities.values())
    assert str(prediction).splitlines() == [
        f"{x.name} {100 * x.probability:.0f} % (predicted from {100 * x.threshold:.0f} %) → "
        f"{'present' if x.is_present else 'absent'}"
        for x in prediction.findings
    ]
    assert [finding.threshold for finding in prediction.findings] == [0.5, 0.99, 0.5]
    assert [finding.is_present for finding in prediction.findings] == [True, False, False]
    assert (prediction.label, prediction.threshold, prediction.heatmap) == ("Dark", None, None)
    assert {finding.heatmap for finding in prediction.findings} == {None}


@pytest.mark.parametrize(
    ("logits", "label"),
    [([9, 12, -9], "Dark|Always"), ([-9, -9, -9], ""), ([0, -9, 0], "Dark|Bright")],
)
def test_label_names_what_is_present(findings_model, logits, label):
    assert Classifier(findings_model).interpret(np.array(logits, np.float32)).label == label


def test_models_of_classes_have_no_findings(models, draw):
    assert Classifier(models["int8"])(draw("x.png", 80)).findings == ()


def test_an_rgb_model_gives_probabilities(flatbuffers, findings_info, monkeypatch):
    rgb = dataclasses.replace(findings_info, input="rgb")
    model = Classifier(append_model_info(flatbuffers["three"], rgb))
    prediction = model.interpret(np.array([0.5, 0.9, 0.1], np.float32))
    assert list(prediction.probabilities.values()) == pytest.approx((0.5, 0.9, 0.1))
    assert prediction.label == "Dark"


def test_refuses_nan(findings_model):
    with pytest.raises(InputError, match="expected finite"):
        Classifier(findings_model).interpret(np.array([1, np.nan, 1], np.float32))


def test_table(findings_model, draw, infer):
    path = draw("x.png", 120)
    done = infer("predict", "--model", findings_model, path)
    lines = done.stdout.splitlines()
    assert lines == [
        f"Dark    13 % (predicted from 50 %) → absent   {path}",
        f"Always  82 % (predicted from 99 %) → absent   {path}",
        f"Bright  87 % (predicted from 50 %) → present  {path}",
    ]
    assert done.stderr == "Not a medical device.\n"


def test_csv_and_json_agree_with_classifier(findings_model, draw, tmp_path, infer):
    path, bad = draw("x.png", 120), tmp_path / "bad.png"
    bad.write_bytes(b"")
    findings = Classifier(findings_model)(path).findings
    done = infer("predict", "--model", findings_model, path, bad, "--csv")
    assert done.exit_code == 1
    *rows, last = csv.DictReader(io.StringIO(done.stdout))
    assert list(last) == ["file", "finding", "present", "probability", "threshold", "error"]
    assert (last["file"], last["finding"], last["error"]) == (str(bad), "", "empty file (0 bytes)")
    assert [
        (row["file"], row["finding"], row["present"], float(row["probability"]), row["error"])
        for row in rows
    ] == [(str(path), x.name, str(int(x.is_present)), x.probability, "") for x in findings]
    done = infer("predict", "--model", findings_model, path, bad, "--json")
    first, second = json.loads(done.stdout)
    assert second == {"file": str(bad), "error": "empty file (0 bytes)"}
    assert first == {
        "file": str(path),
        "findings": {
            x.name: {
                "present": x.is_present,
                "probability": x.probability,
                "threshold": x.threshold,
            }
            for x in findings
        },
    }


def test_a_heatmap_for_each_finding(findings_model, findings_info, monkeypatch, tmp_path):
    maps = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    monkeypatch.setattr(
        runtime.Session, "run_with_heatmap", lambda *_: (np.array([9, -9, 9], np.float32), maps)
    )
    model = Classifier(findings_model)
    pixels = np.zeros((32, 32, 3), np.uint8)
    prediction = model.predict(pixels)
    for number, finding in enumerate(prediction.findings):
        np.testing.assert_array_equal(finding.heatmap, maps[..., number])
    info = dataclasses.replace(findings_info, heatmap=True, grid=(2, 2))
    (tmp_path / "maps").mkdir()
    folder = HeatmapFolder(tmp_path / "maps", info)
    data = encode(pixels, "PNG")
    folder.write(7, "in/x.png", data, prediction)
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        f"000007-{name}-x.png.jpg" for name in sorted(FINDINGS)
    ]
    renamed = [
        dataclasses.replace(finding, name=name)
        for finding, name in zip(prediction.findings, ("a/b", "A b", "胸" * 99), strict=True)
    ]
    folder.write(8, "x" * 250, data, dataclasses.replace(prediction, findings=tuple(renamed)))
    names = [path.name for path in (tmp_path / "maps").iterdir() if path.name.startswith("000008")]
    assert sorted(name[:10] for name in names) == ["000008-1-a", "000008-2-A", "000008-3-胸"]
    assert max(len(name.encode()) for name in names) < 255


def test_evaluate_measures_each_finding(findings_model, source, infer):
    done = infer("evaluate", "--model", findings_model, source, "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    model, nan = Classifier(findings_model), np.nan
    probabilities = [list(model(source / "images" / name).probabilities.values()) for name in ROWS]
    targets = [[1, 1, 0], [0, 1, 1], [0, nan, 1], [1, nan, 0], [1, 1, 0]]
    expected = evaluate_findings(
        targets, probabilities, model.info.threshold, list("abcde"), names=FINDINGS
    )
    assert result == {**json.loads(json.dumps(expected)), "skipped": []}
    assert result["findings"]["Dark"]["confusion_matrix"] == {"tn": 2, "fp": 0, "fn": 1, "tp": 2}
    assert result["findings"]["Always"]["images"] == 3
    lines = infer("evaluate", "--model", findings_model, source).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["finding", *FINDINGS, "mean"]


def test_unknown_states_mean_what_they_meant_in_training(flatbuffers, findings_info, source, infer):
    model = source.parent / "negative.tflite"
    changed = dataclasses.replace(findings_info, unknown="negative")
    model.write_bytes(append_model_info(flatbuffers["three"], changed))
    result = json.loads(infer("evaluate", "--model", model, source, "--json").stdout)
    # The unknown state is absent; the uncertain one still does not count.
    counts = result["findings"]["Always"]
    assert (counts["images"], counts["positives"]) == (4, 3)


def test_one_column_lists_what_is_present(findings_info, source):
    rows = ["image,label", "a,Dark|Always", "b,always", "c,No Finding", "d,Dark", "e,Hernia"]
    (source / "t.csv").write_text("\n".join(rows))
    labelled = find_labelled_images(source, findings_info, {"table": "t.csv"})
    assert [image.states for image in labelled.images] == [
        (1, 1, 0),
        (0, 1, 0),
        (0, 0, 0),
        (1, 0, 0),
        (0, 0, 0),
    ]
    assert "Findings of the model that no image has: Bright." in labelled.notes
    (note,) = [note for note in labelled.notes if note.startswith("Ignored labels")]
    assert "Hernia" in note


def test_a_source_may_have_other_columns(findings_info, source):
    text = (source / "t.csv").read_text().replace("Always", "Hernia").replace("Dark", "dark")
    (source / "t.csv").write_text(text)
    config = {"table": "t.csv", "label": ["Bright", "Hernia", "dark"]}
    labelled = find_labelled_images(source, findings_info, config)
    assert [image.states for image in labelled.images][:2] == [(1, -2, 0), (0, -2, 1)]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "so its source needs a table"),
        ({"table": "none.csv"}, "No table none.csv"),
        ({"table": "t.csv", "label": "patient"}, "has none of the findings of the model, Dark, "),
    ],
)
def test_refuses_other_sources(findings_info, source, config, message):
    with pytest.raises(InputError, match=message):
        find_labelled_images(source, findings_info, config)


def test_bad_images_are_skipped(findings_model, source, infer):
    (source / "images" / "a.png").write_bytes(b"")
    done = infer("evaluate", "--model", findings_model, source, "--json")
    assert done.exit_code == 1
    result = json.loads(done.stdout)
    assert (result["images"], len(result["skipped"])) == (4, 1)
    for name in ROWS:
        (source / "images" / name).write_bytes(b"")
    done = infer("evaluate", "--model", findings_model, source, "--json")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "No readable radiograph was found." in done.stderr


def test_one_finding_is_not_two_classes(flatbuffers, findings_info, draw):
    one = dataclasses.replace(
        findings_info, labels=("Bright",), channels=1, threshold=(0.5,), temperature=(1.0,)
    )
    prediction = Classifier(append_model_info(flatbuffers["float32"], one))(draw("x.png", 120))
    (finding,) = prediction.findings
    assert finding.probability == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-5)
    assert (finding.is_present, prediction.label) == (True, "Bright")


def test_predict_writes_the_heatmaps(
    flatbuffers, findings_info, monkeypatch, tmp_path, draw, infer
):
    maps = np.ones((2, 2, 3), np.float32)
    monkeypatch.setattr(
        runtime.Session, "run_with_heatmap", lambda *_: (np.array([9, -9, 9], np.float32), maps)
    )
    model = tmp_path / "map.tflite"
    with_map = dataclasses.replace(findings_info, heatmap=True, grid=(2, 2))
    model.write_bytes(append_model_info(flatbuffers["three"], with_map))
    done = infer("predict", "--model", model, "--heatmap-dir", tmp_path / "maps", draw("x.png", 9))
    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "maps" / "000001-Always-x.png.jpg") as image:
        assert image.mode == "RGB"
