"""Each runtime in a process of its own, and files that one of them cannot run."""

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
from cxr_tfds.export.operators import SUPPORTED, explain_too_new, operator_versions

pytestmark = pytest.mark.slow

LENIENT = ["--min-agreement", "0", "--max-auc-drop", "1", "--format", "int8"]
IMAGES = np.zeros((2, 64, 64, 1), np.uint8)
needs_tflite_runtime = pytest.mark.skipif(
    "tflite-runtime" not in runtime.installed_runtimes(), reason="needs tflite-runtime"
)


def newer(flatbuffer, version=12):
    """Returns the model with another version of FULLY_CONNECTED."""
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
    return read_model(exported / "tiny-int8.tflite").flatbuffer


@pytest.fixture
def run_with_newer_operator(monkeypatch):
    convert = pack.convert_each

    def convert_newer(*arguments, **options):
        return {name: newer(file) for name, file in convert(*arguments, **options).items()}

    monkeypatch.setattr(pack, "convert_each", convert_newer)


def test_operator_versions(flatbuffer):
    versions = operator_versions(flatbuffer)
    assert versions.keys() == {"MUL", "RESHAPE", "CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED"}
    assert versions["FULLY_CONNECTED"] == 4
    assert explain_too_new(flatbuffer) is None


def test_explains_a_version_that_is_too_new(flatbuffer):
    most = SUPPORTED["FULLY_CONNECTED"]
    assert explain_too_new(newer(flatbuffer, version=most)) is None
    assert explain_too_new(newer(flatbuffer, version=most + 1)) == (
        "tflite-runtime 2.14 does not support FULLY_CONNECTED version 11 (highest: 10)"
    )


def test_explains_an_unknown_operator(flatbuffer, monkeypatch):
    monkeypatch.delitem(SUPPORTED, "MEAN")
    assert explain_too_new(flatbuffer) == "tflite-runtime 2.14 does not support MEAN (unknown)"


@pytest.mark.parametrize("name", runtime.installed_runtimes())
def test_process_reports_logits_latency_and_memory(flatbuffer, name):
    found, outputs = measure.run_in_process(flatbuffer, name, IMAGES)
    assert found.keys() == {"version", "latency_ms", "peak_mb"}
    assert (outputs.dtype, outputs.shape) == (np.float32, (2,))
    assert found["latency_ms"] > 0
    assert 20 < found["peak_mb"] < 120


def test_probe_loads_no_tensorflow():
    code = (
        "import sys, cxr_tfds.export.probe; "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_reports_a_crash(flatbuffer, monkeypatch):
    class Crashed:
        returncode, stderr, stdout = -11, "one\nSegmentation fault\n", ""

    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: Crashed)
    with pytest.raises(
        InputError,
        match=r"^litert exited with code -11 while it ran the model\. Segmentation fault$",
    ):
        measure.run_in_process(flatbuffer, "litert", IMAGES)


def test_reports_a_hanging_process(flatbuffer, monkeypatch):
    def hang(command, timeout, **kwargs):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(InputError, match="litert did not run the model within 1800 s"):
        measure.run_in_process(flatbuffer, "litert", IMAGES)


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (469, 469), (5000, 1000)])
def test_sample_numbers(count, expected):
    chosen = measure.sample_numbers(count)
    assert len(chosen) == expected
    assert (chosen[0], chosen[-1]) == (0, count - 1)


@pytest.mark.parametrize("present", [("litert", "tflite-runtime"), ("litert",)])
def test_refuses_a_file_that_tflite_runtime_cannot_run(
    run, tmp_path, run_with_newer_operator, monkeypatch, present
):
    """The runtime refuses it, or the table of versions if the runtime is not installed."""
    if not set(present) <= set(runtime.installed_runtimes()):
        pytest.skip("needs tflite-runtime")
    monkeypatch.setattr(measure, "loadable_runtimes", lambda: present)
    out = tmp_path / "out"
    result = CliRunner().invoke(export, [str(run), "--out", str(out), *LENIENT])
    assert result.exit_code == 1
    assert "Error: tiny-int8.tflite was not published: " in result.stderr
    assert "FULLY_CONNECTED" in result.stderr
    assert (
        "Choose another format, or publish it for other runtimes with --runtime litert.\n"
        in result.stderr
    )
    assert not out.exists()


@pytest.mark.parametrize("present", [("litert", "tflite-runtime"), ("litert",)])
def test_publishes_it_for_litert_alone(
    run, tmp_path, run_with_newer_operator, monkeypatch, present
):
    if not set(present) <= set(runtime.installed_runtimes()):
        pytest.skip("needs tflite-runtime")
    monkeypatch.setattr(measure, "loadable_runtimes", lambda: present)
    arguments = [str(run), "--out", str(tmp_path), *LENIENT, "--runtime", "litert"]
    result = CliRunner().invoke(export, arguments)
    assert result.exit_code == 0, result.output
    assert "int8 does not run in tflite-runtime: " in result.stdout
    (row,) = json.loads((tmp_path / "export.json").read_text(encoding="utf-8"))["files"]
    assert "FULLY_CONNECTED" in row["refused"]["tflite-runtime"]
    assert read_model(tmp_path / "tiny-int8.tflite").info.runtimes == ("litert",)


@needs_tflite_runtime
def test_refuses_other_decisions_in_a_runtime(run, tmp_path, monkeypatch):
    run_in_process = measure.run_in_process

    def reversed_logits(flatbuffer, name, images):
        found, outputs = run_in_process(flatbuffer, name, images)
        return found, -outputs

    monkeypatch.setattr(measure, "run_in_process", reversed_logits)
    message = (
        r"not published: in (litert|tflite-runtime) it makes \d+\.\d\d% of the Keras model's "
        r"decisions; expected at least 60\.00%\.\nRoot mean square error of the logits"
    )
    with pytest.raises(InputError, match=message):
        pack.export_run(run, tmp_path / "out", ("int8",), limits=pack.Limits(1, 0.6))


def test_keep_float_needs_a_format_that_can_keep_layers(run, tmp_path):
    with pytest.raises(
        InputError,
        match=r"float32 cannot keep layers in float32\. Add the format int8 or int8-float-io\.$",
    ):
        pack.export_run(run, tmp_path / "out", ("float32",), keep_float=("conv2d",))
