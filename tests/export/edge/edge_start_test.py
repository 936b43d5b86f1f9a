"""What a fresh `cxr-infer` loads and prints, with each runtime."""

import subprocess
import sys

import pytest

from cxr_tfds.export.edge import runtime

each_runtime = pytest.mark.parametrize("name", runtime.installed())


def fresh(code, *arguments):
    """Runs Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )


_CLI = "from cxr_tfds.export.edge.command import cli; cli(prog_name='cxr-infer')"
_LOADED = """
import atexit, sys
before = set(sys.modules)
def report():
    loaded = {name.partition(".")[0] for name in sys.modules.keys() - before} - set(sys.stdlib_module_names)
    print("LOADED", *sorted(loaded), file=sys.stderr)
atexit.register(report)
"""


def _loaded(done):
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("LOADED")]
    return {name for name in line.split()[1:] if "cython" not in name}  # NumPy 1 names some so


@pytest.mark.parametrize("command", [[], ["predict"], ["evaluate"], ["benchmark"], ["info"]])
def test_help_loads_neither_numpy_nor_an_interpreter(command):
    done = fresh(_LOADED + _CLI, *command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: cxr-infer")
    assert _loaded(done) <= {"click", "cxr_tfds"}


@each_runtime
def test_predict_loads_no_more_than_it_needs(models, draw, name):
    done = fresh(_LOADED + _CLI, "predict", "--model", models["int8"], "--runtime", name, draw("x.jpg", 99))
    assert done.returncode == 0
    assert _loaded(done) <= {"click", "cxr_tfds", "numpy", "PIL", runtime.RUNTIMES[name]}


@each_runtime
@pytest.mark.parametrize("model", ["int8", "float32"])
def test_the_interpreter_keeps_its_log_to_itself(models, draw, name, model):
    done = fresh(_CLI, "predict", "--model", models[model], "--runtime", name, draw("x.png", 150))
    assert done.stderr == "Probabilities are those of PNEUMONIA. Not a medical device.\n"


@pytest.mark.skipif("tflite-runtime" not in runtime.installed(), reason="needs tflite-runtime")
def test_operator_newer_than_the_runtime(models, draw):
    done = fresh(_CLI, "predict", "--model", models["dynamic"], "--runtime", "tflite-runtime", draw("x.png", 9))
    assert done.returncode == 1
    assert "'FULLY_CONNECTED' version '12'" in done.stderr
    assert "--runtime litert" in done.stderr


def test_no_stderr_at_all(models, draw):
    done = subprocess.run(
        [
            "sh",
            "-c",
            '"$0" -c "$1" predict --model "$2" "$3" 2>&-',
            sys.executable,
            _CLI,
            models["int8"],
            draw("x.png", 150),
        ],
        stdout=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith(b"PNEUMONIA")
