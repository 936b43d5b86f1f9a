"""Each runtime in a process of its own, and what becomes of a file that one of them cannot run."""

import json
import struct
import subprocess
import sys

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner

from cxr_tfds.errors import InputError
from cxr_tfds.export import measure, pack
from cxr_tfds.export.command import export
from cxr_tfds.export.edge import runtime
from cxr_tfds.export.edge.model_file import read_model
from cxr_tfds.export.operators import CARRIED, operator_versions, too_new

LENIENT = ["--min-agreement", "0", "--max-auc-drop", "1", "--format", "int8"]
IMAGES = np.zeros((2, 64, 64, 1), np.uint8)
needs_tflite_runtime = pytest.mark.skipif(
    "tflite-runtime" not in runtime.installed(), reason="needs tflite-runtime"
)


def newer(flatbuffer, version=12):
    """The same int8 model, which says that it needs another version of FULLY_CONNECTED."""
    model = schema.Model.GetRootAsModel(flatbuffer, 0)
    changed = bytearray(flatbuffer)
    for number in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(number)
        if code.BuiltinCode() == schema.BuiltinOperator.FULLY_CONNECTED:
            place = code._tab.Pos + code._tab.Offset(8)
            changed[place : place + 4] = struct.pack("<i", version)
    return bytes(changed)


@pytest.fixture(scope="module")
def flatbuffer(exported):
    return read_model(exported / "tiny-int8.tflite")[0]


@pytest.fixture
def too_new_run(monkeypatch):
    convert = pack.to_tflite
    monkeypatch.setattr(
        pack, "to_tflite", lambda *arguments, **options: newer(convert(*arguments, **options))
    )


def test_versions_are_read(flatbuffer):
    versions = operator_versions(flatbuffer)
    assert versions.keys() == {"CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED"}
    assert versions["FULLY_CONNECTED"] == 4
    assert too_new(flatbuffer) is None


def test_the_first_version_too_many_is_told(flatbuffer):
    most = CARRIED["FULLY_CONNECTED"]
    assert too_new(newer(flatbuffer, version=most)) is None
    assert too_new(newer(flatbuffer, version=most + 1)) == (
        "tflite-runtime 2.14 does not carry FULLY_CONNECTED version 11 (it carries up to 10)"
    )


def test_an_unknown_operator_is_told(flatbuffer, monkeypatch):
    monkeypatch.delitem(CARRIED, "MEAN")
    assert too_new(flatbuffer) == "tflite-runtime 2.14 does not carry MEAN (not known to be in it)"


@pytest.mark.parametrize("name", runtime.installed())
def test_a_process_tells_logits_latency_and_memory(flatbuffer, name):
    found = measure.in_process(flatbuffer, name, IMAGES)
    assert found.runtime == name
    assert (found.answers.dtype, found.answers.shape) == (np.float32, (2,))
    assert 0 < found.latency_ms < 100
    assert 20 < found.peak_mb < 120


def test_the_probe_loads_no_tensorflow():
    code = "import sys, cxr_tfds.export.probe; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_crash_is_told(flatbuffer, monkeypatch):
    class Crashed:
        returncode, stderr, stdout = -11, "one\nSegmentation fault\n", ""

    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: Crashed)
    with pytest.raises(
        InputError, match=r"^litert ended with code -11 when it ran the model\. Segmentation fault$"
    ):
        measure.in_process(flatbuffer, "litert", IMAGES)


def test_a_hanging_process_is_told(flatbuffer, monkeypatch):
    def hang(command, timeout, **kwargs):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(InputError, match="litert did not run the model within 1800 s"):
        measure.in_process(flatbuffer, "litert", IMAGES)


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (469, 469), (5000, 1000)])
def test_sample(count, expected):
    chosen = measure.sample(count)
    assert len(chosen) == expected
    assert (chosen[0], chosen[-1]) == (0, count - 1)


@pytest.mark.parametrize("present", [("litert", "tflite-runtime"), ("litert",)])
def test_a_file_that_tflite_runtime_cannot_run_is_refused(
    run, tmp_path, too_new_run, monkeypatch, present
):
    """By the runtime itself, and by the table of versions where it is not installed."""
    if not set(present) <= set(runtime.installed()):
        pytest.skip("needs tflite-runtime")
    monkeypatch.setattr(measure, "loadable", lambda: present)
    out = tmp_path / "out"
    result = CliRunner().invoke(export, [str(run), "--out", str(out), *LENIENT])
    assert result.exit_code == 1
    assert "Error: tiny-int8.tflite was not published: " in result.stderr
    assert "FULLY_CONNECTED" in result.stderr
    assert (
        "Choose another format, or publish it for others with --runtime litert.\n" in result.stderr
    )
    assert not out.exists()


@pytest.mark.parametrize("present", [("litert", "tflite-runtime"), ("litert",)])
def test_it_is_marked_when_it_is_asked_for(run, tmp_path, too_new_run, monkeypatch, present):
    if not set(present) <= set(runtime.installed()):
        pytest.skip("needs tflite-runtime")
    monkeypatch.setattr(measure, "loadable", lambda: present)
    arguments = [str(run), "--out", str(tmp_path), *LENIENT, "--runtime", "litert"]
    result = CliRunner().invoke(export, arguments)
    assert result.exit_code == 0, result.output
    assert "int8          does not run in tflite-runtime: " in result.stdout
    (row,) = json.loads((tmp_path / "export.json").read_text(encoding="utf-8"))["files"]
    assert "FULLY_CONNECTED" in row["refused"]["tflite-runtime"]
    assert read_model(tmp_path / "tiny-int8.tflite")[1].runtimes == ("litert",)


@needs_tflite_runtime
def test_other_decisions_in_tflite_runtime_are_refused(run, tmp_path, monkeypatch):
    in_process = measure.in_process

    def reversed_logits(flatbuffer, name, images):
        found = in_process(flatbuffer, name, images)
        return found._replace(answers=-found.answers)

    monkeypatch.setattr(measure, "in_process", reversed_logits)
    said = r"not published: in tflite-runtime it agrees on \d+\.\d\d% of the decisions; 60\.00% are needed\.\n"
    with pytest.raises(InputError, match=rf"{said}What each layer loses:\n"):
        pack.export_run(run, tmp_path / "out", ("int8",), demands=pack.Demands(1, 0.6))


def test_keeping_layers_needs_a_format_that_can(run, tmp_path):
    with pytest.raises(
        InputError, match=r"none of float32 keeps layers; add int8 or int8-float-io\.$"
    ):
        pack.export_run(run, tmp_path / "out", ("float32",), keep_float=("conv2d",))
