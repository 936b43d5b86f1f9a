"""`cxr-export`: what is published, how close it stays to Keras, and what is not published."""

import dataclasses
import json
import shutil
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.scoring import open_run_dataset, score
from cxr_tfds.export import check, pack
from cxr_tfds.export.command import export
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.model_file import read_model, read_model_card
from cxr_tfds.export.edge.runtime import installed
from cxr_tfds.export.operators import operator_versions
from cxr_tfds.export.pack import Demands
from cxr_tfds.metrics.logits import probabilities
from cxr_tfds.reading import sequential
from helpers.splits import load_split
from cxr_tfds.run_folder import RunConfig

FILES = ["export.json", "tiny-float32.tflite", "tiny-int8.tflite"]
LENIENT = ["--min-agreement", "0", "--max-auc-drop", "1"]


def files_of(folder):
    """The rows of export.json by format."""
    return {
        row["quantization"]: row
        for row in json.loads((folder / "export.json").read_text("utf-8"))["files"]
    }


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def invoke(*args):
    return CliRunner().invoke(export, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def dataset(run):
    return open_run_dataset(RunConfig.read(run))


@pytest.fixture(scope="module")
def keras_scores(run, dataset):
    return score(run_folder.load_model(run), dataset, "test")


@pytest.fixture
def spoiled(run, tmp_path):
    """A copy of the run to spoil."""
    return shutil.copytree(run, tmp_path / "tiny")


def test_names_and_sizes(exported):
    assert names(exported) == FILES
    int8, float32 = (
        (exported / f"tiny-{kind}.tflite").stat().st_size for kind in ("int8", "float32")
    )
    assert int8 < 0.4 * float32


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_the_card_says_what_a_device_must_know(exported, run, kind):
    config = RunConfig.read(run)
    _, card = read_model(exported / f"tiny-{kind}.tflite")
    table = files_of(exported)[kind]
    assert (card.labels, card.size, card.channels, card.fit) == (
        ("NORMAL", "PNEUMONIA"),
        64,
        1,
        "stretch",
    )
    assert card.quantization == kind
    assert (card.threshold, card.temperature) == (table["threshold"], table["temperature"])
    assert (card.runtimes, card.heatmap, card.grid) == (("litert", "tflite-runtime"), False, None)
    assert card.dataset == config.dataset
    assert card.run == {"name": "tiny", "model": "edge", "environment": config.environment}
    for split in ("validation", "test"):
        assert card.metrics[split] == {
            name: table["comparisons"][split][name] for name in ("auc", "accuracy")
        }
    of_run, of_file = read_model_card(exported / f"tiny-{kind}.tflite").split("\n## This file\n")
    assert of_run.strip() == (run / "MODEL_CARD.md").read_text(encoding="utf-8").strip()
    assert of_file.splitlines()[1].startswith(f"- {kind}, grey in, for litert and tflite-runtime. ")
    assert f"- PNEUMONIA is called from a probability of {card.threshold:.3f}; " in of_file
    assert (
        f"- test: 40 images, {table['comparisons']['test']['agreement']:.2%} decided as by the Keras mo"
        in of_file
    )
    assert table["path"] == f"tiny-{kind}.tflite"
    assert table["size_bytes"] == (exported / table["path"]).stat().st_size
    assert table["refused"] == {}


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_each_installed_runtime_has_run_it(exported, dataset, kind):
    table = files_of(exported)[kind]
    assert [found["runtime"] for found in table["ran"]] == list(installed())
    for found in table["ran"]:
        assert found["images"] == dataset.sizes["validation"]
        assert found["agreement"] >= 0.9
        assert 0 < found["latency_ms"] < 100
        assert 20 < found["peak_mb"] < 120  # of a process that has loaded no TensorFlow


def test_the_fastest_and_the_smallest_are_named(exported):
    whole = json.loads((exported / "export.json").read_text(encoding="utf-8"))
    assert whole["smallest"] == "tiny-int8.tflite"
    assert whole["fastest"].keys() == set(installed())
    assert set(whole["fastest"].values()) <= set(FILES)


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
    logits = check.exported_answers(flatbuffer, load_split(dataset, "test").images)
    np.testing.assert_allclose(logits, keras_scores.logits, atol=1e-4)


def test_int8_decides_as_keras(exported, run, dataset, keras_scores):
    flatbuffer, card = read_model(exported / "tiny-int8.tflite")
    logits = check.exported_answers(flatbuffer, load_split(dataset, "test").images)
    assert np.abs(probabilities(logits) - keras_scores.probabilities).max() < 0.06
    own = keras_scores.probabilities >= RunConfig.read(run).threshold
    assert ((probabilities(logits / card.temperature) >= card.threshold) == own).mean() >= 0.95
    assert len(np.unique(logits)) > 10  # not stuck at the ends of a range


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_files_of_the_source_get_the_decision_of_keras(
    exported, run, phantom, dataset, keras_scores, kind
):
    classifier = Classifier(exported / f"tiny-{kind}.tflite")
    config = RunConfig.read(run)
    images = dict(zip(keras_scores.image_ids, load_split(dataset, "test").images, strict=True))
    sure = np.abs(keras_scores.probabilities - config.threshold) > 0.06  # the step of int8
    assert sure.sum() >= 20
    calibrated = probabilities(keras_scores.logits / classifier.card.temperature)
    decided = keras_scores.probabilities >= config.threshold
    for image_id, probability, finding, is_sure in zip(
        keras_scores.image_ids, calibrated, decided, sure, strict=True
    ):
        file = phantom / "chest_xray" / image_id
        np.testing.assert_array_equal(classifier.pixels(file), images[image_id])
        prediction = classifier(file)
        assert prediction.probability == pytest.approx(
            probability, abs=1e-4 if kind == "float32" else 0.1
        )
        if is_sure:
            assert prediction.label == config.labels[int(finding)]


def test_the_same_run_gives_the_same_bytes(run, exported, tmp_path):
    pack.export_run(
        run, tmp_path, ("int8", "float32"), demands=Demands(max_auc_drop=1, min_agreement=0)
    )
    for name in FILES[1:]:
        assert (tmp_path / name).read_bytes() == (exported / name).read_bytes()


def test_the_command_with_a_heatmap_and_a_layer_in_float32(run, tmp_path, monkeypatch):
    convert, read = pack.to_tflite, sequential.field_batches
    reads, calibrated = Counter(), []

    def count(dataset, split, fields, **options):
        reads[split] += 1
        return read(dataset, split, fields, **options)

    def spy(model, quantization, calibration, keep_float, *, rgb):
        calibrated.append(len(calibration))
        return convert(model, quantization, calibration, keep_float, rgb=rgb)

    monkeypatch.setattr(sequential, "field_batches", count)
    monkeypatch.setattr(pack, "to_tflite", spy)
    layer = next(
        layer.name for layer in run_folder.load_model(run).layers if "conv2d" in layer.name
    )
    out = tmp_path / "out"
    twice = ("--format", "int8", "--format", "int8", "--keep-float", layer, "--keep-float", layer)
    result = invoke(run, "--out", out, *twice, "--heatmap", "--calibration", 8, *LENIENT)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[:3:2] for line in lines[1:3]] == [["int8", "validation"], ["int8", "test"]]
    assert [line.split()[:2] for line in lines[5:-5]] == [
        ["int8", runtime] for runtime in installed()
    ]
    assert lines[-4].startswith("fastest: tiny-int8.tflite in litert")
    assert lines[-3:] == ["smallest: tiny-int8.tflite", "", str(out / "tiny-int8.tflite")]
    assert "converting to int8" in result.stderr
    assert names(out) == ["export.json", "tiny-int8.tflite"]
    assert (calibrated, reads) == ([8], {"validation": 1, "test": 1, "train": 2})
    flatbuffer, card = read_model(out / "tiny-int8.tflite")
    assert {"QUANTIZE", "DEQUANTIZE"} <= operator_versions(flatbuffer).keys()
    assert (card.run["float_layers"], card.heatmap, card.grid) == ([layer], True, (2, 2))
    assert read_model_card(out / "tiny-int8.tflite").endswith(f"\n- Left in float32: {layer}\n")


def test_a_folder_that_holds_something_is_refused_and_an_older_run_taken(
    spoiled, tmp_path, monkeypatch
):
    (spoiled / "MODEL_CARD.md").unlink()
    monkeypatch.setattr(check, "_auc", lambda *arguments: None)  # as if validation lacked a class
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    result = invoke(spoiled, "--out", out)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {out} exists and is not empty. Choose another folder, or give --overwrite to replace what "
        "stands there.\n"
    )
    result = invoke(spoiled, "--out", out, "--overwrite", "--format", "float32", *LENIENT)
    assert result.exit_code == 0, result.output
    assert names(out) == ["export.json", "notes.txt", "tiny-float32.tflite"]
    assert (
        "a class has no validation image, so there is no AUC and --max-auc-drop asks nothing"
        in result.stderr
    )
    with pytest.raises(InputError, match=r"has no MODEL_CARD\.md inside"):
        read_model_card(out / "tiny-float32.tflite")


def test_what_was_found_of_the_files_that_stay_is_kept(run, tmp_path):
    """But the fastest and the smallest are of this export: an RGB one, and of nothing that is calibrated."""
    earlier = [
        {"path": f"{name}.tflite", "quantization": "int8", "size_bytes": 9, "ran": []}
        for name in ("a", "gone")
    ]
    (tmp_path / "export.json").write_text(json.dumps({"files": earlier}), encoding="utf-8")
    (tmp_path / "a.tflite").write_bytes(b"TFL3")
    result = invoke(
        run, "--out", tmp_path, "--overwrite", "--input", "rgb", "--format", "float32", *LENIENT
    )
    assert result.exit_code == 0, result.output
    whole = json.loads((tmp_path / "export.json").read_text(encoding="utf-8"))
    assert [row["path"] for row in whole["files"]] == ["a.tflite", "tiny-float32-rgb.tflite"]
    assert whole["smallest"] == "tiny-float32-rgb.tflite"
    assert set(whole["fastest"].values()) == {"tiny-float32-rgb.tflite"}


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (
            {"min_agreement": 1.01},
            r"on validation it agrees on \d+\.\d\d% of the decisions; 101\.00% are needed\.",
        ),
        (
            {"max_auc_drop": -1.0},
            r"on validation its AUC is 0\.\d{4} against 0\.\d{4}; -1\.0 may be lost\.",
        ),
    ],
)
def test_a_format_that_loses_too_much_is_not_published(run, tmp_path, limits, said):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=rf"^tiny-float32\.tflite was not published: {said}$"):
        pack.export_run(run, out, ("float32",), demands=Demands(**limits))
    assert not out.exists()


def test_one_bad_format_keeps_the_good_one_back_and_the_worst_layers_are_named(
    run, tmp_path, monkeypatch
):
    convert = pack.to_tflite

    def broken(model, quantization, calibration, keep_float, *, rgb):
        if quantization == "int8":  # as if calibrated on nothing but darkness
            calibration = np.zeros_like(calibration)
        return convert(model, quantization, calibration, keep_float, rgb=rgb)

    monkeypatch.setattr(pack, "to_tflite", broken)
    out = tmp_path / "out"
    result = invoke(run, "--out", out)
    assert result.exit_code == 1
    assert "Error: tiny-int8.tflite was not published: on validation " in result.stderr
    assert "converting to int8" in result.stderr
    rows = result.stderr.partition("What each layer loses:\n")[2].splitlines()
    errors = [float(row.split()[1]) for row in rows[1:-1]]
    assert len(errors) == 12
    assert errors == sorted(errors, reverse=True)
    assert rows[-1] == "Keep the worst in float32 with --keep-float LAYER."
    assert not out.exists()


def test_an_unfinished_run_is_refused(spoiled, tmp_path):
    (spoiled / "model.keras").unlink()
    result = invoke(spoiled, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{spoiled / 'model.keras'} does not exist: the run did not finish." in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_card_that_cannot_be_read_is_refused(spoiled, tmp_path):
    (spoiled / "MODEL_CARD.md").write_bytes(b"\xff")
    with pytest.raises(
        InputError, match=r"MODEL_CARD\.md cannot be read: .* Write it anew with: cxr-evaluate "
    ):
        pack.export_run(spoiled, tmp_path / "out", ("float32",))


def test_a_dataset_with_other_examples_is_refused(spoiled, tmp_path):
    config = RunConfig.read(spoiled)
    dataclasses.replace(config, dataset={**config.dataset, "fingerprint": "0" * 64}).write(spoiled)
    result = invoke(spoiled, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "holds other examples than the run was trained on" in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--format", "int4", "'int4' is not one of 'float32', 'float16', "),
        ("--calibration", "1", "1 is not in the range x>=2."),
        ("--min-agreement", "1.5", "1.5 is not in the range 0<=x<=1."),
    ],
)
def test_wrong_usage(run, tmp_path, option, value, said):
    result = invoke(run, "--out", tmp_path / "out", option, value)
    assert result.exit_code == 2
    assert said in result.stderr
