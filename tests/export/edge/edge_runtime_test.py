"""Sessions of both runtimes: numbers worked by hand, and errors."""

import importlib.util
import json
import subprocess
import sys

import flatbuffers as packer
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from cxr_tfds.errors import InputError
from cxr_tfds.export.edge import options, runtime
from cxr_tfds.export.operators import SUPPORTED

pytestmark = pytest.mark.slow

SIZE = 32
needs_both = pytest.mark.skipif(len(runtime.installed_runtimes()) < 2, reason="needs both runtimes")
each_runtime = pytest.mark.parametrize("name", runtime.installed_runtimes())


def flat(grey, channels=1):
    return np.full((1, SIZE, SIZE, channels), grey, np.uint8)


@each_runtime
def test_float32_logits_by_hand(logits, name):
    greys = [0, 100, 123, 255]
    found = logits("float32", name, [flat(grey) for grey in greys])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[-10], [0], [2.3], [15.5]], atol=1e-4)


@each_runtime
def test_int8_logits_are_within_quantization_steps(logits, name):
    greys = np.arange(0, 256, 15)
    found = logits("int8", name, [flat(grey) for grey in greys])
    # 25 logits over 256 steps of 0.1, a few of which are lost on the way.
    np.testing.assert_allclose(found[:, 0], (greys - 100) / 10, atol=0.3)


@each_runtime
def test_three_logits_of_rgb(logits, name):
    found = logits("three", name, [flat(200, channels=3)])
    assert found.shape == (1, 3)
    np.testing.assert_allclose(found, [[-10, 3, 10]], atol=0.5)


@needs_both
@pytest.mark.parametrize("model", ["int8", "float32"])
def test_runtimes_agree(logits, model):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 1, SIZE, SIZE, 1), dtype=np.uint8)
    one, other = (logits(model, name, pixels) for name in runtime.RUNTIMES)
    np.testing.assert_allclose(one, other, atol=0.15)  # a step of the int8 output is 0.1


@pytest.mark.skipif(
    "tflite-runtime" not in runtime.installed_runtimes(), reason="needs tflite-runtime"
)
def test_tflite_runtime_supports_the_listed_operator_versions(flatbuffers, tmp_path):
    """Renames the first operator of a model: the listed version is found, the next is not."""
    for operator, most in SUPPORTED.items():
        for more in (0, 1):
            (tmp_path / f"{operator}-{more}").write_bytes(
                renamed(flatbuffers["int8"], operator, most + more)
            )
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for operator, most in SUPPORTED.items():
        refusal = f"Didn't find op for builtin opcode '{operator}' version '{most + 1}'"
        assert refusal in found[f"{operator}-1"]
        assert "Didn't find op" not in found[f"{operator}-0"]


_LOAD = """
import json, sys
from pathlib import Path
from tflite_runtime.interpreter import Interpreter
found = {}
for path in Path(sys.argv[1]).iterdir():
    try:
        Interpreter(model_content=path.read_bytes())
        found[path.name] = "loads"
    except Exception as err:
        found[path.name] = str(err)
print(json.dumps(found))
"""


def renamed(flatbuffer, operator, version):
    """Returns the model with its first operator renamed; it can be loaded, but not run."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(flatbuffer), 0)
    code = model.operatorCodes[0]
    code.builtinCode, code.version = getattr(schema.BuiltinOperator, operator), version
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    builder = packer.Builder(1 << 14)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.mark.skipif("litert" not in runtime.installed_runtimes(), reason="needs litert")
def test_refuses_zero_threads(flatbuffers):
    with pytest.raises(InputError, match=r"^litert .* cannot load the model: num_threads"):
        runtime.load(flatbuffers["int8"], "litert", threads=0)


def test_results_are_copies(flatbuffers):
    session = runtime.load(flatbuffers["float32"])
    first = session.run(flat(0))
    session.run(flat(255))
    assert first[0] == pytest.approx(-10, abs=1e-3)


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "expected"),
    [
        (np.float32, 0.0, 0, {0: 0.0, 7: 7.0, 255: 255.0}),
        (np.int8, 1.0, -128, {0: -128, 128: 0, 255: 127}),
        (np.uint8, 1.0, 0, {0: 0, 128: 128, 255: 255}),
        (
            np.int8,
            2.0,
            0,
            {1: 1, 2: 1, 3: 2, 5: 3, 255: 127},
        ),  # halves away from zero: 0.5, 1.5, 2.5
        (np.int8, 0.5, -128, {0: -128, 1: -126, 127: 126, 128: 127, 255: 127}),  # clipped above
        (np.int8, 1.0, -130, {0: -128, 1: -128, 2: -128, 3: -127}),  # clipped below
        (
            np.int16,
            255 / 32767,
            0,
            {0: 0, 1: 128, 2: 257, 254: 32639, 255: 32767},
        ),  # 1 is 128.498, 2 is 256.996
    ],
)
def test_quantization_by_hand(dtype, scale, zero_point, expected):
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    found = runtime.make_quantizer(dtype, scale, zero_point)(pixels)
    assert found.dtype == dtype
    assert found.shape == pixels.shape
    assert {value: found.flat[value].item() for value in expected} == expected


@pytest.mark.parametrize(
    "pixels", [np.zeros((SIZE, SIZE, 1), np.uint8), np.zeros((1, SIZE, SIZE, 1), np.float32)]
)
def test_refuses_other_pixels(flatbuffers, pixels):
    session = runtime.load(flatbuffers["int8"])
    with pytest.raises(InputError, match=r"the model takes uint8 \(1, 32, 32, 1\)"):
        session.run(pixels)


def test_auto_uses_the_preferred_runtime(flatbuffers):
    assert runtime.load(flatbuffers["int8"]).name == runtime.installed_runtimes()[0]


def test_command_offers_all_runtimes():
    assert ("auto", *runtime.RUNTIMES) == options.RUNTIMES


@pytest.mark.parametrize(
    ("asked", "version", "message"),
    [
        (
            "auto",
            (3, 11),
            r"No runtime .* 'cxr-tfds\[edge\]' or pip install 'cxr-tfds\[tflite-runtime\]'$",
        ),
        ("auto", (3, 12), r"No runtime .* pip install 'cxr-tfds\[edge\]'$"),
        ("litert", (3, 13), r"litert is not installed\..* pip install 'cxr-tfds\[edge\]'$"),
        ("tflite-runtime", (3, 10), r"pip install 'cxr-tfds\[tflite-runtime\]'$"),
        (
            "tflite-runtime",
            (3, 12),
            r"does not exist for Python 3.12. Use litert: .*'cxr-tfds\[edge\]'$",
        ),
    ],
)
def test_reports_missing_runtimes(monkeypatch, asked, version, message):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(InputError, match=message):
        runtime.load(b"", asked)


def test_refuses_unknown_runtime():
    with pytest.raises(InputError, match="Did you mean 'litert'"):
        runtime.load(b"", "lite-rt")


def test_refuses_tflite_runtime_with_numpy_2(monkeypatch):
    monkeypatch.setattr(runtime, "installed_runtimes", lambda: ("tflite-runtime",))
    monkeypatch.setattr(np, "__version__", "2.1.0")
    with pytest.raises(
        InputError, match=r"but NumPy 2\.1\.0 is installed\. .* pip install 'numpy<2'"
    ):
        runtime.load(b"")


@pytest.mark.parametrize(
    ("version", "expected"), [("1.26.4", ("litert", "tflite-runtime")), ("2.1.0", ("litert",))]
)
def test_loadable_runtimes_depend_on_numpy(monkeypatch, version, expected):
    monkeypatch.setattr(runtime, "installed_runtimes", lambda: ("litert", "tflite-runtime"))
    monkeypatch.setattr(np, "__version__", version)
    assert runtime.loadable_runtimes() == expected


def test_reports_a_broken_installation(monkeypatch):
    monkeypatch.setattr(runtime, "installed_runtimes", lambda: ("litert",))
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(InputError, match="litert is installed but cannot be loaded"):
        runtime.load(b"")


def test_refuses_tflite_runtime_with_tensorflow(monkeypatch):
    monkeypatch.setattr(runtime, "installed_runtimes", lambda: ("tflite-runtime",))
    monkeypatch.setitem(sys.modules, "tensorflow", np)
    monkeypatch.delitem(sys.modules, "tflite_runtime", raising=False)
    with pytest.raises(InputError, match=r"has loaded TensorFlow\. Use litert"):
        runtime.load(b"")
