"""`cxr-export`: what is published, how close it is to Keras, and what is refused."""

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.splits import load_split

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.scoring import score
from cxr_tfds.export import check, inference, pack, results, variants
from cxr_tfds.export.command import export
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.model_file import read_model
from cxr_tfds.export.edge.runtime import installed_runtimes
from cxr_tfds.export.inference import run_in_litert
from cxr_tfds.export.operators import operator_versions
from cxr_tfds.export.pack import Limits
from cxr_tfds.metrics.logits import probabilities
from cxr_tfds.reading.run_data import open_run_dataset
from cxr_tfds.run_folder import RunConfig

pytestmark = pytest.mark.slow

FILES = ["export.json", "tiny-float32.tflite", "tiny-int8.tflite"]
LENIENT = ["--min-agreement", "0", "--max-auc-drop", "1"]


def files_of(folder):
    """Returns the rows of export.json by format."""
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
def run_copy(run, tmp_path):
    """Returns a copy of the run that a test may change."""
    return shutil.copytree(run, tmp_path / "tiny")


def test_names_and_sizes(exported):
    assert names(exported) == FILES
    int8, float32 = (
        (exported / f"tiny-{kind}.tflite").stat().st_size for kind in ("int8", "float32")
    )
    assert int8 < 0.4 * float32


def test_signs_the_files(exported, exported_rgb, keys):
    """MediaPipe, other runtimes and zip programs read these files in the other tests."""
    paths = [*exported.glob("*.tflite"), *exported_rgb.glob("*.tflite")]
    assert len(paths) == 4
    for path in paths:
        assert read_model(path, keys.public).info.labels == ("NORMAL", "PNEUMONIA")


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_model_info_and_model_card(exported, run, kind):
    config = RunConfig.read(run)
    _, info, model_card = read_model(exported / f"tiny-{kind}.tflite")
    table = files_of(exported)[kind]
    assert info.labels == ("NORMAL", "PNEUMONIA")
    assert (info.size, info.channels, info.fit) == (64, 1, "stretch")
    assert info.quantization == kind
    assert (info.threshold, info.temperature) == (table["threshold"], table["temperature"])
    assert (info.runtimes, info.heatmap, info.grid) == (("litert", "tflite-runtime"), True, (2, 2))
    assert info.dataset == config.dataset
    assert info.run == {
        "name": "tiny",
        "model": "edge",
        "environment": config.environment,
        "threshold_rule": "youden-stress",
    }
    images = info.reliability["PNEUMONIA"]["images"]
    assert sum(images) == table["comparisons"]["validation"]["images"]
    for split in ("validation", "test"):
        assert info.metrics[split] == {
            name: table["comparisons"][split][name] for name in ("auc", "accuracy")
        }
    of_run, of_file = model_card.split("\n## This file\n")
    assert of_run.strip() == (run / "MODEL_CARD.md").read_text(encoding="utf-8").strip()
    lines = of_file.splitlines()
    assert lines[1].startswith(f"- Format {kind}, grey input, for litert and tflite-runtime. ")
    assert f"- PNEUMONIA is predicted from a probability of {info.threshold:.3f}." in lines
    agreement, low, high = (
        f"{table['comparisons']['test'][name]:.2%}"
        for name in ("agreement", "agreement_low", "agreement_high")
    )
    written = f"{agreement} (95% CI {low} to {high})"
    assert f"- test: 40 images, {written} decided as by the Keras model; " in of_file
    assert table["path"] == f"tiny-{kind}.tflite"
    assert table["size_bytes"] == (exported / table["path"]).stat().st_size
    assert table["refused"] == {}


def test_files_contain_the_origin_and_no_place_of_the_machine(exported, run, built, phantom):
    _, info, model_card = read_model(exported / "tiny-int8.tflite")
    assert info.dataset["origin"]["drawn"] is True
    assert info.dataset["origin"]["licence"] == "Apache 2.0"
    assert "drawn by a program" in model_card
    images = [path.name for path in phantom.rglob("*.jpeg")]
    for path in exported.iterdir():
        content = path.read_bytes()
        for place in (run.parent, built, phantom, Path.home(), *images):
            assert str(place).encode() not in content, (path.name, place)


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_every_installed_runtime_ran_the_file(exported, dataset, kind):
    table = files_of(exported)[kind]
    assert [found["runtime"] for found in table["ran"]] == list(installed_runtimes())
    for found in table["ran"]:
        assert found["images"] == dataset.sizes["validation"]
        assert found["agreement"] >= 0.9
        assert found["latency_ms"] > 0
        assert 20 < found["peak_mb"] < 120  # of a process that has loaded no TensorFlow


def test_names_the_fastest_and_the_smallest(exported):
    content = json.loads((exported / "export.json").read_text(encoding="utf-8"))
    assert content["smallest"] == "tiny-int8.tflite"
    assert content["fastest"].keys() == set(installed_runtimes())
    assert set(content["fastest"].values()) <= set(FILES)


@pytest.mark.parametrize(("kind", "dtype"), [("int8", np.int8), ("float32", np.float32)])
def test_input_and_output_types(exported, kind, dtype):
    from ai_edge_litert.interpreter import Interpreter

    flatbuffer = read_model(exported / f"tiny-{kind}.tflite").flatbuffer
    interpreter = Interpreter(model_content=flatbuffer)
    runner = interpreter.get_signature_runner("serving_default")
    image, logits = runner.get_input_details()["image"], runner.get_output_details()["logits"]
    assert image["shape"].tolist() == [1, 64, 64, 1]
    assert logits["shape"].tolist() == [1, 1]
    assert image["dtype"] == logits["dtype"] == dtype
    # First, for programs that do not know that the second output is a heat map.
    first, _ = interpreter.get_output_details()
    assert first["index"] == logits["index"]
    if kind == "int8":  # the pixel minus 128: the input loses nothing
        scale, zero_point = image["quantization"]
        assert scale == pytest.approx(1, abs=0.02)
        assert zero_point == -128


def test_float32_gives_the_logits_of_keras(exported, dataset, keras_scores):
    flatbuffer = read_model(exported / "tiny-float32.tflite").flatbuffer
    logits = run_in_litert(flatbuffer, load_split(dataset, "test").images)
    np.testing.assert_allclose(logits, keras_scores.logits, atol=1e-4)


def test_int8_decides_like_keras(exported, run, dataset, keras_scores):
    flatbuffer, info, _ = read_model(exported / "tiny-int8.tflite")
    logits = run_in_litert(flatbuffer, load_split(dataset, "test").images)
    assert np.abs(probabilities(logits) - keras_scores.probabilities).max() < 0.06
    own = keras_scores.probabilities >= RunConfig.read(run).threshold
    assert ((probabilities(logits / info.temperature) >= info.threshold) == own).mean() >= 0.95
    assert len(np.unique(logits)) > 10  # not stuck at the ends of a range


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_source_files_get_the_decision_of_keras(
    exported, run, phantom, dataset, keras_scores, kind
):
    classifier = Classifier(exported / f"tiny-{kind}.tflite")
    config = RunConfig.read(run)
    images = dict(zip(keras_scores.image_ids, load_split(dataset, "test").images, strict=True))
    sure = np.abs(keras_scores.probabilities - config.threshold) > 0.06  # the step of int8
    assert sure.sum() >= 20
    scaled = probabilities(keras_scores.logits / classifier.info.temperature)
    decided = keras_scores.probabilities >= config.threshold
    for image_id, probability, finding, is_sure in zip(
        keras_scores.image_ids, scaled, decided, sure, strict=True
    ):
        file = phantom / "chest_xray" / image_id
        np.testing.assert_array_equal(classifier.read(file).pixels, images[image_id])
        prediction = classifier(file)
        assert prediction.probability == pytest.approx(
            probability, abs=1e-4 if kind == "float32" else 0.1
        )
        if is_sure:
            assert prediction.label == config.labels[int(finding)]


def test_the_same_run_gives_the_same_bytes(run, exported, keys, tmp_path):
    limits = Limits(max_auc_drop=1, min_agreement=0)
    formats = ["int8", "float32"]
    pack.export_run(str(run), str(tmp_path), formats, limits=limits, sign=str(keys.private))
    for name in FILES[1:]:
        assert (tmp_path / name).read_bytes() == (exported / name).read_bytes()


def test_command_with_a_heatmap_and_a_float32_layer(run, tmp_path, monkeypatch):
    convert, read = pack.convert_each, inference.field_batches
    reads, image_counts = Counter(), []

    def count(dataset, split, fields):
        reads[split] += 1
        return read(dataset, split, fields)

    def spy(model, formats, images, keep_float, *, rgb):
        image_counts.append(len(images))
        return convert(model, formats, images, keep_float, rgb=rgb)

    monkeypatch.setattr(inference, "field_batches", count)
    monkeypatch.setattr(pack, "convert_each", spy)
    layer = next(
        layer.name for layer in run_folder.load_model(run).layers if "conv2d" in layer.name
    )
    out = tmp_path / "out"
    twice = ("--format", "int8", "--format", "int8", "--keep-float", layer, "--keep-float", layer)
    options = ("--representative-images", 8)
    result = invoke(run, "--out", out, *twice, *options, *LENIENT)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[:3:2] for line in lines[1:3]] == [["int8", "validation"], ["int8", "test"]]
    assert [line.split()[:2] for line in lines[5:7]] == [["int8", "validation"], ["int8", "test"]]
    assert [line.split()[:2] for line in lines[9:-2]] == [
        ["int8", runtime] for runtime in installed_runtimes()
    ]
    assert lines[-2:] == ["", str(out / "tiny-int8.tflite")]
    assert "converting to int8" in result.stderr
    assert names(out) == ["export.json", "tiny-int8.tflite"]
    # Validation is read again for the images that each runtime runs; train, to choose images.
    assert (image_counts, reads) == ([8], {"validation": 2, "test": 1, "train": 2})
    flatbuffer, info, model_card = read_model(out / "tiny-int8.tflite")
    assert {"QUANTIZE", "DEQUANTIZE"} <= operator_versions(flatbuffer).keys()
    assert (info.run["float_layers"], info.heatmap, info.grid) == ([layer], True, (2, 2))
    assert model_card.endswith(f"\n- Layers in float32: {layer}.\n")


def test_refuses_a_folder_with_content_and_takes_a_run_without_model_card(
    run_copy, tmp_path, converted, monkeypatch
):
    (run_copy / "MODEL_CARD.md").unlink()
    monkeypatch.setattr(check, "_auc", lambda *arguments: None)  # as if validation lacked a class
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    result = invoke(run_copy, "--out", out)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {out} exists and is not empty. Choose another folder, or add --overwrite to "
        "write to it anyway.\n"
    )
    result = invoke(run_copy, "--out", out, "--overwrite", "--format", "float32", *LENIENT)
    assert result.exit_code == 0, result.output
    assert names(out) == ["export.json", "notes.txt", "tiny-float32.tflite"]
    assert "a class has no validation image, so the AUC was not checked" in result.stderr
    assert read_model(out / "tiny-float32.tflite").card is None


def test_keeps_the_rows_of_files_that_stay(run, exported, tmp_path):
    """The fastest and the smallest are files of this export."""
    content = json.loads((exported / "export.json").read_text(encoding="utf-8"))
    row = content["files"][0] | {"size_bytes": 9}
    content["files"] = [row | {"path": f"{name}.tflite"} for name in ("a", "gone")]
    (tmp_path / "export.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "a.tflite").write_bytes(b"TFL3")
    options = ("--overwrite", "--variant", "rgb", "--format", "float32")
    result = invoke(run, "--out", tmp_path, *options, *LENIENT)
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "export.json").read_text(encoding="utf-8"))
    assert [row["path"] for row in content["files"]] == ["a.tflite", "tiny-float32-rgb.tflite"]
    assert content["smallest"] == "tiny-float32-rgb.tflite"
    assert set(content["fastest"].values()) == {"tiny-float32-rgb.tflite"}


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            {"min_agreement": 1.01},
            r"on validation it makes \d+\.\d\d% \(95% CI .*\) of the Keras model's decisions; "
            r"expected at least 101\.00%\.",
        ),
        (
            {"max_auc_drop": -1.0},
            r"on validation its AUC is 0\.\d{4}, 0\.\d{4} in Keras; at most -1\.0 may be lost\.",
        ),
    ],
)
def test_refuses_a_format_that_loses_too_much(run, tmp_path, converted, limits, message):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=rf"^tiny-float32\.tflite was not published: {message}$"):
        pack.export_run(run, out, ("float32",), limits=Limits(**limits))
    assert not out.exists()


@pytest.fixture
def worse_on_test(monkeypatch):
    """Makes every sixteenth decision of the exported model on test differ from Keras."""
    compare = check.compare

    def compare_with_errors(keras, logits, threshold, temperature=1.0):
        if len(logits) == 40:  # the test split
            logits = logits.copy()
            logits[::16] *= -1
        return compare(keras, logits, threshold, temperature)

    monkeypatch.setattr(check, "compare", compare_with_errors)


def test_warns_of_few_validation_images_and_a_worse_test_split(
    run, tmp_path, converted, worse_on_test
):
    out = tmp_path / "out"
    result = invoke(run, "--out", out, "--format", "float32", "--max-auc-drop", 1)
    assert result.exit_code == 0, result.output
    few, worse = result.stderr.splitlines()[-2:]
    begin = "Warning: tiny-float32.tflite: "
    assert few.startswith(f"{begin}validation has ")
    assert few.endswith("189 images would show 98.0%.")
    assert worse.startswith(
        f"{begin}on test (40 images) it makes 92.50% (95% CI 80.14% to 97.42%) "
    )
    row = files_of(out)["float32"]
    assert [f"{begin}{warning}" for warning in row["warnings"]] == [few, worse]
    card = read_model(out / "tiny-float32.tflite").card
    for warning in row["warnings"]:
        assert f"- **Warning:** {warning}\n" in card
    assert "80.14% to 97.42%" in result.stdout


def test_strict_publishes_nothing_in_doubt(run, tmp_path, converted, worse_on_test):
    out = tmp_path / "out"
    result = invoke(run, "--out", out, "--format", "float32", "--max-auc-drop", 1, "--strict")
    assert result.exit_code == 1
    begin = "Error: tiny-float32.tflite was not published because of --strict: validation has "
    assert begin in result.stderr
    assert "on test (40 images) it makes 92.50% " in result.stderr
    assert not out.exists()


def test_one_bad_format_prevents_publishing_and_the_message_names_the_layers(
    run, tmp_path, monkeypatch
):
    convert = pack.convert_each

    def convert_badly(model, formats, images, keep_float, *, rgb):
        black = np.zeros_like(images)  # sets wrong ranges
        return convert(model, formats, black, keep_float, rgb=rgb)

    monkeypatch.setattr(pack, "convert_each", convert_badly)
    out = tmp_path / "out"
    result = invoke(run, "--out", out, "--representative-images", 8)
    assert result.exit_code == 1
    assert "Error: tiny-int8.tflite was not published: on validation " in result.stderr
    assert "converting to int8" in result.stderr
    title = "Root mean square error of the logits if one layer alone is quantized:\n"
    rows = result.stderr.partition(title)[2].splitlines()
    errors = [float(row.split()[1]) for row in rows[:-1]]
    assert len(errors) == 12
    assert errors == sorted(errors, reverse=True)
    assert rows[-1] == "Keep the worst layers in float32 with --keep-float LAYER."
    assert not out.exists()


def test_refuses_an_unfinished_run(run_copy, tmp_path):
    (run_copy / "model.keras").unlink()
    result = invoke(run_copy, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{run_copy / 'model.keras'} does not exist because the run" in result.stderr
    assert not (tmp_path / "out").exists()


def test_refuses_an_unreadable_model_card(run_copy, tmp_path):
    (run_copy / "MODEL_CARD.md").write_bytes(b"\xff")
    with pytest.raises(
        InputError, match=r"Cannot read .*MODEL_CARD\.md: .* Write it again with: cxr-evaluate "
    ):
        pack.export_run(run_copy, tmp_path / "out", ("float32",))


def test_refuses_a_dataset_with_other_examples(run_copy, tmp_path):
    config = RunConfig.read(run_copy)
    dataclasses.replace(config, dataset={**config.dataset, "fingerprint": "0" * 64}).write(run_copy)
    result = invoke(run_copy, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "has other examples or settings than the run was trained" in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--format", "int4", "'int4' is not one of 'float32', 'float16', "),
        ("--representative-images", "1", "1 is not in the range x>=2."),
        ("--min-agreement", "1.5", "1.5 is not in the range 0<=x<=1."),
    ],
)
def test_wrong_usage(run, tmp_path, option, value, message):
    result = invoke(run, "--out", tmp_path / "out", option, value)
    assert result.exit_code == 2
    assert message in result.stderr


def test_public_function_exports_strings(run, tmp_path, converted):
    import cxr_tfds

    limits = Limits(max_auc_drop=1, min_agreement=0)
    (file,) = cxr_tfds.export(str(run), str(tmp_path), formats=["float32"], limits=limits)
    assert file.path == tmp_path / "tiny-float32.tflite"
    assert file.path.is_file()


def test_exports_a_network_without_a_heatmap(run, tmp_path, monkeypatch):
    def refuse(model):
        raise InputError("tiny ends in Flatten and Dense.")

    monkeypatch.setattr(variants, "with_heatmap", refuse)
    result = invoke(run, "--out", tmp_path / "out", "--format", "float32", *LENIENT)
    assert result.exit_code == 0, result.output
    assert "without a heat map: tiny ends in Flatten and Dense.\n" in result.stderr
    _, info, _ = read_model(tmp_path / "out" / "tiny-float32.tflite")
    assert (info.heatmap, info.grid) == (False, None)


def test_public_function_refuses_unknown_names(run, tmp_path):
    with pytest.raises(InputError, match=r"^format: 'int4' is not one of 'float32', "):
        pack.export_run(run, tmp_path, ["int4"])
    with pytest.raises(InputError, match=r"^variant: 'rgba' is not one of 'grey', 'plain', "):
        pack.export_run(run, tmp_path, variant="rgba")


@pytest.mark.parametrize(
    ("latencies", "expected"),
    [
        ([(2.0, 3.0), (1.0, 4.0)], {"litert": "b", "tflite-runtime": "a"}),
        ([(1.0, 3.0), (1.0, 3.0)], {"litert": "a", "tflite-runtime": "a"}),  # a tie: by name
    ],
)
def test_fastest_by_runtime(latencies, expected):
    files = [
        results.Exported(
            Path(name), "int8", 9, 1.0, 0.5, {},
            [
                results.RuntimeResult(runtime, "1", latency, None, 1, 1.0)
                for runtime, latency in zip(expected, row, strict=True)
            ],
            {}, [],
        )
        for name, row in zip("ab", latencies, strict=True)
    ]  # fmt: skip
    assert results.fastest(files) == expected
