"""`cxr-infer benchmark` prints a row for each runtime and thread count, even if others fail."""

import json

import pytest

from cxr_tfds.export.edge import benchmark, runtime

pytestmark = pytest.mark.slow

_TIMES = ("load_ms", "first_ms", "startup_ms", "median_ms", "p95_ms", "decode_ms", "peak_mb")


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    monkeypatch.setattr(benchmark, "core_count", lambda: 1)


@pytest.fixture
def folder(draw, tmp_path):
    """A folder with four radiographs and a text file named like one."""
    place = tmp_path / "images"
    for name in "bcde":
        draw(f"{name}.png", 100, folder=place)
    (place / "a.png").write_bytes(b"text")
    return place


def test_rows_for_each_runtime_and_thread_count(models, folder, monkeypatch, infer):
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
        assert row["load_ms"] + row["first_ms"] < row["startup_ms"]
        assert 20 < row["peak_mb"] < 120  # of the child, which has loaded no TensorFlow


def test_table_with_a_generated_image(models, infer):
    done = infer("benchmark", "--model", models["float32"])
    assert done.exit_code == 0
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["runtime", "threads", *_TIMES]
    assert [row.split()[0] for row in rows] == list(runtime.installed_runtimes())
    assert all(
        row.split()[5] == "-" for row in rows
    )  # startup_ms would include generating the image


@pytest.mark.skipif(
    "tflite-runtime" not in runtime.installed_runtimes(), reason="needs tflite-runtime"
)
def test_reports_a_runtime_that_cannot_run_the_model(models, infer):
    rows = json.loads(infer("benchmark", "--model", models["dynamic"], "--json").stdout)
    errors = {row["runtime"]: row.get("error", "") for row in rows}
    assert "'FULLY_CONNECTED' version '12'" in errors.pop("tflite-runtime")
    assert not any(errors.values())


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import os; os.kill(os.getpid(), 11)", "exited with code -11 while it ran the model."),
        (
            "raise RuntimeError('why')",
            "exited with code 1 while it ran the model. RuntimeError: why",
        ),
        ("import time; time.sleep(60)", "did not run the model within 1 s."),
    ],
)
def test_reports_a_process_that_fails(models, monkeypatch, code, error, infer):
    monkeypatch.setattr(benchmark, "_CHILD", ("-c", code))
    monkeypatch.setattr(benchmark, "_TIMEOUT_S", 1)
    done = infer("benchmark", "--model", models["int8"], "--json")
    assert done.exit_code == 1
    rows = json.loads(done.stdout)
    assert [row["error"] for row in rows] == [f"{row['runtime']} {error}" for row in rows]
    assert done.stderr.splitlines()[-1] == "Error: No runtime could run the model."


def test_reports_a_missing_runtime(models, monkeypatch, infer):
    monkeypatch.setattr(runtime, "installed_runtimes", lambda: ())
    code = (
        "from importlib import util; from cxr_tfds.export.edge import benchmark; "
        "util.find_spec = lambda name: None; benchmark.main()"
    )
    monkeypatch.setattr(benchmark, "_CHILD", ("-c", code))
    done = infer("benchmark", "--model", models["int8"], "--json")
    assert done.exit_code == 1
    (row,) = json.loads(done.stdout)
    assert row["error"].startswith(
        "No runtime is installed. Install one with: pip install 'cxr-tfds[edge]'"
    )


def test_refuses_folder_without_readable_images(models, folder, infer):
    for path in folder.glob("[b-e].png"):
        path.unlink()
    done = infer("benchmark", "--model", models["int8"], "--images", folder, "--json")
    assert done.exit_code == 1
    assert {row["error"] for row in json.loads(done.stdout)} == {"None of the images can be read."}


def test_refuses_a_truncated_model(models, tmp_path, infer):
    truncated = tmp_path / "truncated.tflite"
    truncated.write_bytes(models["int8"].read_bytes()[:-30])
    done = infer("benchmark", "--model", truncated)
    assert done.exit_code == 1
    assert "is truncated after" in done.stderr
    assert done.stdout == ""
