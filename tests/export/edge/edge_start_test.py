"""What a new `cxr-infer` process imports and prints, with each runtime."""

import dataclasses
import subprocess

import pytest

from cxr_tfds.export.edge import runtime
from cxr_tfds.export.edge.model_file import append_model_info

pytestmark = pytest.mark.slow

each_runtime = pytest.mark.parametrize("name", runtime.installed_runtimes())


_LOADED = """
import atexit, sys
before = set(sys.modules)
def report():
    names = {name.partition(".")[0] for name in sys.modules.keys() - before}
    loaded = names - set(sys.stdlib_module_names)
    print("LOADED", *sorted(loaded), file=sys.stderr)
atexit.register(report)
"""


def _loaded(done):
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("LOADED")]
    names = {name for name in line.split()[1:] if "cython" not in name}  # modules of NumPy 1
    return names - {"typing_extensions", "defusedxml"}  # of msgspec and Pillow, if installed


@pytest.mark.parametrize("arguments", [[], ["predict"], ["evaluate"], ["benchmark"], ["info"]])
def test_help_imports_neither_numpy_nor_a_runtime(arguments, infer_apart):
    done = infer_apart(*arguments, "--help", before=_LOADED)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: cxr-infer")
    assert _loaded(done) <= {"click", "cxr_tfds"}


@each_runtime
def test_predict_imports_only_what_it_needs(models, draw, name, infer_apart):
    arguments = ("predict", "--model", models["int8"], "--runtime", name, draw("x.jpg", 99))
    done = infer_apart(*arguments, before=_LOADED)
    assert done.returncode == 0
    assert _loaded(done) <= {"click", "cxr_tfds", "msgspec", "numpy", "PIL", runtime.RUNTIMES[name]}


@each_runtime
def test_evaluate_imports_only_what_a_device_has(models, draw, tmp_path, name, infer_apart):
    draw("a.png", 40), draw("b.png", 160)
    (tmp_path / "t.csv").write_text("image,label\na,NORMAL\nb,PNEUMONIA\n")
    arguments = ("--model", models["int8"], "--runtime", name, "--config", '{"table": "t.csv"}')
    done = infer_apart("evaluate", *arguments, tmp_path, before=_LOADED)
    assert done.returncode == 0, done.stderr
    assert _loaded(done) <= {"click", "cxr_tfds", "msgspec", "numpy", "PIL", runtime.RUNTIMES[name]}


@each_runtime
@pytest.mark.parametrize("model", ["int8", "float32"])
def test_suppresses_the_log_of_the_runtime(models, draw, name, model, infer_apart):
    done = infer_apart("predict", "--model", models[model], "--runtime", name, draw("x.png", 150))
    assert done.stderr == "Not a medical device.\n"


@pytest.mark.skipif(
    "tflite-runtime" not in runtime.installed_runtimes(), reason="needs tflite-runtime"
)
def test_reports_operators_newer_than_the_runtime(models, draw, infer_apart):
    done = infer_apart(
        "predict", "--model", models["dynamic"], "--runtime", "tflite-runtime", draw("x.png", 9)
    )
    assert done.returncode == 1
    assert "'FULLY_CONNECTED' version '12'" in done.stderr
    assert done.stderr.endswith(
        "needs a newer runtime: use --runtime litert, or export the model in another format.\n"
    )


def test_refuses_runtimes_that_the_file_does_not_list(
    flatbuffers, info, draw, tmp_path, infer, monkeypatch
):
    """The list decides, although the model would run."""
    model, image = tmp_path / "marked.tflite", draw("x.png", 150)
    model.write_bytes(
        append_model_info(flatbuffers["int8"], dataclasses.replace(info, runtimes=("litert",)))
    )
    if "litert" in runtime.installed_runtimes():
        assert infer("predict", "--model", model, image).exit_code == 0
    for installed, asked in (
        (("litert", "tflite-runtime"), "tflite-runtime"),
        (("tflite-runtime",), "auto"),
    ):
        monkeypatch.setattr(runtime, "installed_runtimes", lambda names=installed: names)
        done = infer("predict", "--model", model, "--runtime", asked, image)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr == (
            "Error: The model was exported for litert only, not for tflite-runtime. Install "
            "litert with pip install 'cxr-tfds[edge]', or export the model in another format.\n"
        )


def test_predicts_without_stderr(models, draw, command_line):
    done = subprocess.run(
        [
            "sh",
            "-c",
            '"$@" 2>&-',
            "sh",
            *command_line("predict", "--model", models["int8"], draw("x.png", 150)),
        ],
        stdout=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith(b"PNEUMONIA")
