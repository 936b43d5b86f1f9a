"""`cxr-infer benchmark`: a row for each interpreter and thread count, whatever becomes of the others."""

import json

import pytest

from cxr_tfds.export.edge import benchmark, runtime

_TIMES = ("load_ms", "first_ms", "answer_ms", "median_ms", "p95_ms", "decode_ms", "peak_mb")


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    monkeypatch.setattr(benchmark, "core_count", lambda: 1)


@pytest.fixture
def folder(draw, tmp_path):
    """Four radiographs among which one is none; the first."""
    place = tmp_path / "images"
    for name in "bcde":
        draw(f"{name}.png", 100, folder=place)
    (place / "a.png").write_bytes(b"text")
    return place


def test_each_runtime_and_thread_count(models, folder, monkeypatch, infer):
    monkeypatch.setattr(benchmark, "core_count", lambda: 2)
    done = infer("benchmark", "--model", models["int8"], "--images", folder, "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [(row["runtime"], row["threads"]) for row in rows] == [
        (n, t) for n in runtime.installed_runtimes() for t in (1, 2)
    ]
    for row in rows:
        assert row["images"] == 4
        assert all(row[name] > 0 for name in _TIMES)
        assert row["median_ms"] <= row["p95_ms"]
        assert row["load_ms"] + row["first_ms"] < row["answer_ms"]
        assert 20 < row["peak_mb"] < 120  # of the child, which has loaded no TensorFlow


def test_for_people_with_a_drawn_image(models, infer):
    done = infer("benchmark", "--model", models["float32"])
    assert done.exit_code == 0
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["runtime", "threads", *_TIMES]
    assert [row.split()[0] for row in rows] == list(runtime.installed_runtimes())
    assert all(row.split()[5] == "-" for row in rows)  # drawing the image is no part of an answer


@pytest.mark.skipif("tflite-runtime" not in runtime.installed_runtimes(), reason="needs tflite-runtime")
def test_one_runtime_that_cannot_run_it(models, infer):
    rows = json.loads(infer("benchmark", "--model", models["dynamic"], "--json").stdout)
    errors = {row["runtime"]: row.get("error", "") for row in rows}
    assert "'FULLY_CONNECTED' version '12'" in errors.pop("tflite-runtime")
    assert not any(errors.values())


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import os; os.kill(os.getpid(), 11)", "ended with code -11"),
        ("raise RuntimeError('why')", "ended with code 1: RuntimeError: why"),
        ("import time; time.sleep(60)", "gave no answer within 1 s"),
    ],
)
def test_a_process_that_does_not_answer(models, monkeypatch, code, error, infer):
    monkeypatch.setattr(benchmark, "_CHILD", code)
    monkeypatch.setattr(benchmark, "_LIMIT_S", 1)
    done = infer("benchmark", "--model", models["int8"], "--json")
    assert done.exit_code == 1
    assert {row["error"] for row in json.loads(done.stdout)} == {error}
    assert done.stderr == "Error: No interpreter could run the model.\n"


def test_no_interpreter(models, monkeypatch, infer):
    monkeypatch.setattr(runtime, "installed_runtimes", lambda: ())
    code = benchmark._CHILD.replace("import child", "import child; from importlib import util")
    monkeypatch.setattr(
        benchmark,
        "_CHILD",
        code.replace("child(sys", "util.find_spec = lambda name: None; child(sys"),
    )
    done = infer("benchmark", "--model", models["int8"], "--json")
    assert done.exit_code == 1
    (row,) = json.loads(done.stdout)
    assert row["error"].startswith(
        "No interpreter is installed here. Install one with: pip install 'cxr-tfds[edge]'"
    )


def test_no_image_that_can_be_read(models, folder, infer):
    for path in folder.glob("[b-e].png"):
        path.unlink()
    done = infer("benchmark", "--model", models["int8"], "--images", folder, "--json")
    assert done.exit_code == 1
    assert {row["error"] for row in json.loads(done.stdout)} == {
        "There is no image that can be read."
    }


def test_damaged_model(models, tmp_path, infer):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(models["int8"].read_bytes()[:-30])
    done = infer("benchmark", "--model", damaged)
    assert done.exit_code == 1
    assert "is cut off after" in done.stderr
    assert done.stdout == ""
