"""The extra `edge` on every Python it promises, as far as it is on this machine, installed from the wheel."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
DIRECT = {"cxr-tfds", "ai-edge-litert", "click", "numpy", "pillow"}


def interpreter(version):
    """Path of a Python of this version, from PATH or of pyenv, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"versions/{version}.*/bin/python"))]
    for place in filter(None, places):
        # pyenv puts a name on PATH for each version, which fails where that one is not chosen.
        done = run(place, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
        if done.stdout.strip() == version:
            return place
    return None


def run(*command, cwd=None):
    return subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", params=VERSIONS)
def device(request, install, wheel, tmp_path_factory):
    """Folder of the commands of an environment with the extra `edge`."""
    version = request.param
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    folder = tmp_path_factory.mktemp(f"device-{version}")
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        venv.create(folder, with_pip=False)
    else:
        assert run(python, "-m", "venv", "--without-pip", folder).returncode == 0
    install(folder / "bin" / "python", f"{wheel}[edge]")
    return folder / "bin"


def infer(device, *arguments, cwd):
    done = run(device / "cxr-infer", *arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_environment(device, install, exported, phantom, tmp_path):
    """One test for all there is to ask: the environment is what takes the time."""
    code = """
import importlib.metadata, importlib.util, json, sys
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "holds": sorted(d.metadata["Name"].lower() for d in importlib.metadata.distributions()),
    "foreign": [n for n in ("tensorflow", "keras", "sklearn", "pandas", "matplotlib") if importlib.util.find_spec(n)],
    "numpy": importlib.metadata.version("numpy"),
}))
"""
    facts = json.loads(run(device / "python", "-c", code, cwd=tmp_path).stdout)
    assert set(facts["holds"]) >= DIRECT
    assert facts["foreign"] == []
    assert int(facts["numpy"].partition(".")[0]) == 2
    test = phantom / "chest_xray" / "test"
    for form in ("int8", "float32"):
        model = exported / f"tiny-{form}.tflite"
        assert infer(device, "info", "--model", model, cwd=tmp_path)["quantization"] == form
        rows = infer(device, "predict", "--model", model, test, cwd=tmp_path)
        assert len(rows) == 40
        table = infer(device, "evaluate", "--model", model, test, cwd=tmp_path)
        files = {file["quantization"]: file for file in json.loads((exported / "export.json").read_text())["files"]}
        # The same runtime as at export, and the same pixels.
        at_export = files[form]["comparisons"]["test"]["accuracy"]
        assert table["accuracy"]["value"] == pytest.approx(at_export)
        assert sum(Path(row["file"]).parent.name == row["label"] for row in rows) == round(40 * at_export)
    if facts["version"] == "3.11":
        install(device / "python", "tflite-runtime")  # as pip leaves it when asked for it by its own name
        numpy_2_with_tflite_runtime(device, exported / "tiny-int8.tflite", test, tmp_path)


def numpy_2_with_tflite_runtime(device, model, images, folder):
    done = run(device / "cxr-infer", "predict", "--model", model, "--runtime", "tflite-runtime", images, cwd=folder)
    assert done.returncode == 1
    assert "Error: tflite-runtime was built for NumPy 1 and NumPy 2." in done.stderr
    assert "pip install 'numpy<2'" in done.stderr
    assert done.stdout == ""
