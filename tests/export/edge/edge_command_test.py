"""`cxr-infer predict`, `evaluate` and `info`: output, errors and exit codes."""

import csv
import dataclasses
import importlib
import io
import json
import os
import sys

import pytest

from cxr_tfds.export.edge import runtime
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.model_file import append_model_info, read_model

pytestmark = pytest.mark.slow


@pytest.fixture
def mixed(tmp_path, draw):
    """A folder as extracted from a zip: four radiographs among other files."""
    folder = tmp_path / "mixed"
    for name in (
        "b.png",
        "a.JPG",
        "deep/er/c.tif",
        "z/d.bmp",
        "__MACOSX/e.png",
        ".hidden/f.png",
        "._a.png",
    ):
        draw(name if name != "a.JPG" else "a.jpg", 150, folder=folder)
    (folder / "a.jpg").rename(folder / "a.JPG")
    for name in (".DS_Store", "Thumbs.db", "notes.txt"):
        (folder / name).write_bytes(b"text")
    return folder


def test_one_file(models, draw, infer):
    path = draw("x.png", 120)
    done = infer("predict", "--model", models["float32"], path)
    row = f"PNEUMONIA  88 % (predicted from 50 %) → PNEUMONIA  {path}\n"
    assert (done.exit_code, done.stdout) == (0, row)
    assert done.stderr == "Not a medical device.\n"
    path = draw("y.png", 80)
    done = infer("predict", "--model", models["float32"], path)
    assert done.stdout == f"PNEUMONIA  12 % (predicted from 50 %) → NORMAL     {path}\n"


def test_three_classes(models, draw, infer):
    path = draw("x.png", 220)
    done = infer("predict", "--model", models["three"], path)
    assert done.stdout == f"VIRUS    >99 % (then BACTERIA <1 %) → VIRUS     {path}\n"
    assert done.stderr == "Not a medical device.\n"
    (row,) = json.loads(infer("predict", "--model", models["three"], path, "--json").stdout)
    assert set(row) == {"file", "label", "probabilities", "rule"}
    assert row["rule"] == {"most_probable": True}
    assert list(row["probabilities"]) == ["NORMAL", "BACTERIA", "VIRUS"]
    done = infer("predict", "--model", models["three"], path, "--csv")
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    columns = ["probability_NORMAL", "probability_BACTERIA", "probability_VIRUS"]
    assert list(row) == ["file", "label", *columns, "error"]
    assert float(row["probability_VIRUS"]) > 0.99


def test_sorts_folders_and_ignores_other_files(models, mixed, infer):
    done = infer("predict", "--model", models["int8"], mixed, "--csv")
    files = [row["file"] for row in csv.DictReader(io.StringIO(done.stdout))]
    assert files == [str(mixed / name) for name in ("a.JPG", "b.png", "deep/er/c.tif", "z/d.bmp")]
    assert done.exit_code == 0
    assert done.stderr == ""


def test_reads_named_files_with_any_suffix(models, draw, infer):
    path = draw("x.png", 150)
    odd = path.rename(path.with_name(".x.bin"))
    assert infer("predict", "--model", models["int8"], odd).exit_code == 0


def test_json_agrees_with_classifier(models, mixed, draw, infer):
    path = draw("dark.png", 30)
    done = infer("predict", "--model", models["int8"], mixed, path, "--json")
    rows = json.loads(done.stdout)
    assert [set(row) for row in rows] == [{"file", "label", "probabilities", "rule"}] * 5
    prediction = Classifier(models["int8"])(path)
    assert rows[-1] == {
        "file": str(path),
        "label": "NORMAL",
        "probabilities": prediction.probabilities,
        "rule": {"class": "PNEUMONIA", "threshold": 0.5},
    }


@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_reports_bad_images_and_predicts_the_others(models, mixed, form, infer):
    (mixed / "b.png").write_bytes(b"")
    done = infer("predict", "--model", models["int8"], mixed, *([form] if form else []))
    assert done.exit_code == 1
    assert f"{mixed / 'b.png'}: empty file (0 bytes)" in done.stderr
    assert done.stderr.endswith("Error: 1 of 4 images could not be read.\n")
    if form == "--json":
        rows = json.loads(done.stdout)
        assert rows[1] == {"file": str(mixed / "b.png"), "error": "empty file (0 bytes)"}
        assert len(rows) == 4
    elif form == "--csv":
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        assert [row["error"] for row in rows] == ["", "empty file (0 bytes)", "", ""]
    else:
        assert done.stdout.splitlines()[1] == f"?          {mixed / 'b.png'}: empty file (0 bytes)"
        assert done.stderr.count("Not a medical device.") == 1


def test_json_of_bad_images_only(models, tmp_path, infer):
    path = tmp_path / "x.png"
    path.write_bytes(b"no image")
    done = infer("predict", "--model", models["int8"], path, "--json")
    assert done.exit_code == 1
    assert [set(row) for row in json.loads(done.stdout)] == [{"file", "error"}]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["{model}", "none.png"], 2, "Path 'none.png' does not exist"),
        (["none.tflite", "{image}"], 2, "File 'none.tflite' does not exist"),
        (["{model}"], 2, "Missing argument 'FILE|FOLDER|-...'"),
        (["{model}", "{image}", "--json", "--csv"], 2, "--json and --csv exclude each other."),
        (["{model}", "{image}", "--runtime", "lite"], 2, "Did you mean 'litert'?"),
        (["{model}", "{image}", "--threads", "0"], 2, "x>=1"),
        (["{model}", "{empty}"], 1, "contains no images (.bmp "),
        (["{image}", "{image}"], 1, "is not a TFLite model"),
    ],
)
def test_refuses_wrong_usage(models, draw, tmp_path, arguments, exit_code, message, infer):
    empty = tmp_path / "empty"
    empty.mkdir()
    places = {"model": models["int8"], "image": draw("x.png", 100), "empty": empty}
    done = infer("predict", "--model", *(argument.format(**places) for argument in arguments))
    assert done.exit_code == exit_code
    assert message in " ".join(done.stderr.split())
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["predict", "evaluate", "info"])
def test_every_command_refuses_a_truncated_model(models, tmp_path, draw, command, infer):
    truncated = tmp_path / "truncated.tflite"
    truncated.write_bytes(models["int8"].read_bytes()[:-30])
    draw("NORMAL/x.png", 10)
    where = [] if command == "info" else [tmp_path]
    done = infer(command, "--model", truncated, *where)
    assert done.exit_code == 1
    assert f"{truncated} is truncated after" in done.stderr


@pytest.mark.parametrize("form", ["--csv", "--json", None])
def test_escapes_names_that_stdout_cannot_encode(
    models, flatbuffers, info, draw, tmp_path, infer, form
):
    """A pipe on Windows has such an encoding."""
    model, image = tmp_path / "model.tflite", draw("胸.png", 220)
    named = dataclasses.replace(info, labels=("正常", "Lungenentzündung"))
    model.write_bytes(append_model_info(flatbuffers["int8"], named))
    done = infer("predict", "--model", model, image, *([form] if form else []), charset="cp1252")
    assert done.exit_code == 0, done.output
    text = json.loads(done.stdout)[0]["label"] if form == "--json" else done.stdout
    assert "Lungenentzündung" in text
    assert "\\u80f8.png" in done.stdout


@pytest.mark.parametrize("name", ["predict", "evaluate"])
def test_threads_reach_the_interpreter(models, test_set, infer, monkeypatch, name):
    module = importlib.import_module(
        f"{runtime.RUNTIMES[runtime.installed_runtimes()[0]]}.interpreter"
    )
    usual, asked = module.Interpreter, []

    def interpreter(**options):
        asked.append(options["num_threads"])
        return usual(**options)

    monkeypatch.setattr(module, "Interpreter", interpreter)
    assert infer(name, "--model", models["int8"], "--threads", 3, test_set).exit_code == 0
    assert asked == [3]


def test_predicts_files_with_undecodable_names(models, draw, tmp_path, infer):
    if sys.platform != "linux":
        pytest.skip("file names are text here")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    draw("x.png", 150).rename(odd)
    for form in ("--json", "--csv"):
        assert infer("predict", "--model", models["int8"], odd, form).exit_code == 0
    assert infer("predict", "--model", models["int8"], odd).exit_code == 0


def test_info(models, infer):
    fields = json.loads(infer("info", "--model", models["int8"], "--json").stdout)
    assert fields.pop("file") == str(models["int8"])
    assert fields.pop("bytes") == models["int8"].stat().st_size
    assert fields.pop("python").startswith("import numpy as np\n")
    assert not fields["dataset"].pop("origin")["drawn"]
    assert fields == json.loads(json.dumps(dataclasses.asdict(read_model(models["int8"]).info)))
    assert fields["labels"] == ["NORMAL", "PNEUMONIA"]
    lines = infer("info", "--model", models["int8"]).stdout.splitlines()
    assert "labels: NORMAL, PNEUMONIA" in lines
    assert "dataset.version: 1.0.0" in lines
    assert "metrics.test.auc: 0.97" in lines


def test_info_prints_the_model_card(models, flatbuffers, info, tmp_path, infer):
    described = tmp_path / "described.tflite"
    described.write_bytes(append_model_info(flatbuffers["int8"], info, "# Model card: ü\n"))
    assert infer("info", "--model", described, "--card").stdout == "# Model card: ü\n"
    without = infer("info", "--model", models["int8"], "--card")
    assert (without.exit_code, without.stdout) == (1, "")
    assert f"Error: {models['int8']} contains no MODEL_CARD.md. Export it again" in without.stderr
    assert infer("info", "--model", described, "--card", "--json").exit_code == 2


def test_threshold_of_the_info_decides_the_label(flatbuffers, info, draw, tmp_path, infer):
    strict = tmp_path / "strict.tflite"
    strict.write_bytes(
        append_model_info(flatbuffers["int8"], dataclasses.replace(info, threshold=0.99))
    )
    done = infer("predict", "--model", strict, draw("x.png", 120))
    assert done.stdout.startswith("PNEUMONIA  88 % (predicted from 99 %) → NORMAL ")
