"""The extras, installed from the wheel on every supported Python of this machine.

`device_environment_test.py` tests tflite-runtime on Python 3.11.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ENVIRONMENTS = [
    ("3.10", "edge"),
    ("3.11", "edge"),
    ("3.12", "edge"),
    ("3.13", "edge"),
    ("3.10", "tflite-runtime"),
]
INTERPRETER = {"edge": "ai-edge-litert", "tflite-runtime": "tflite-runtime"}
DIRECT = {"cxr-tfds", "click", "msgspec", "numpy", "pillow"}


def interpreter(version):
    """Returns a Python of this version, from PATH or pyenv, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places = [
        shutil.which(f"python{version}"),
        *sorted(pyenv.glob(f"versions/{version}.*/bin/python")),
    ]
    for place in filter(None, places):
        # pyenv puts every version on PATH, and those that are not selected fail.
        done = run(place, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
        if done.stdout.strip() == version:
            return place
    return None


def run(*command, cwd=None):
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )


def environment(version, folder):
    """Creates an environment and returns its folder of commands."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        venv.create(folder, with_pip=False)
    else:
        assert run(python, "-m", "venv", "--without-pip", folder).returncode == 0
    return folder / "bin"


def infer(device, *arguments, cwd):
    done = run(device / "cxr-infer", *arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def bare(names):
    """Returns the package names of requirements, normalized as in PEP 503."""
    return {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower() for name in names}


_HOLDS = """
import importlib.metadata, json, sys
(interpreter,) = sys.argv[1:]
print(json.dumps({
    "holds": [d.metadata["Name"] for d in importlib.metadata.distributions()],
    "needs": [n for n in importlib.metadata.requires(interpreter) if "extra ==" not in n],
    "numpy": importlib.metadata.version("numpy"),
}))
"""


@pytest.mark.parametrize(("version", "extra"), ENVIRONMENTS)
def test_environment(version, extra, install, wheel, exported, phantom, tmp_path):
    """One test for everything, because creating the environment takes the time."""
    device = environment(version, tmp_path / "venv")
    install(device / "python", f"{wheel}[{extra}]")
    facts = json.loads(
        run(device / "python", "-c", _HOLDS, INTERPRETER[extra], cwd=tmp_path).stdout
    )
    needed = DIRECT | {INTERPRETER[extra]}
    assert needed <= bare(facts["holds"]) <= needed | bare(facts["needs"])
    assert bare(facts["needs"]).isdisjoint(
        {"tensorflow", "keras", "scikit-learn", "pandas", "matplotlib"}
    )
    assert int(facts["numpy"].partition(".")[0]) == (2 if extra == "edge" else 1)
    test = phantom / "chest_xray" / "test"
    files = {
        file["path"]: file for file in json.loads((exported / "export.json").read_text())["files"]
    }
    # Pixels and LiteRT's kernels equal those of the export. Other kernels may decide one image
    # near the threshold differently.
    accuracy = {name: file["comparisons"]["test"]["accuracy"] for name, file in files.items()}
    most = 0 if extra == "edge" else 1
    for name, at_export in accuracy.items():
        rows = infer(device, "predict", "--model", exported / name, test, cwd=tmp_path)
        assert len(rows) == 40
        right = sum(Path(row["file"]).parent.name == row["label"] for row in rows)
        assert abs(right - round(40 * at_export)) <= most
    model = exported / "tiny-int8.tflite"
    assert infer(device, "info", "--model", model, cwd=tmp_path)["quantization"] == "int8"
    table = infer(device, "evaluate", "--model", model, test, cwd=tmp_path)
    assert table["accuracy"]["value"] == pytest.approx(
        accuracy["tiny-int8.tflite"], abs=1e-9 + most / 40
    )
    if (version, extra) == ("3.11", "edge"):
        install(
            device / "python", "tflite-runtime"
        )  # as pip leaves it when asked for it by its own name
        numpy_2_with_tflite_runtime(device, exported / "tiny-int8.tflite", test, tmp_path)


def numpy_2_with_tflite_runtime(device, model, images, folder):
    done = run(
        device / "cxr-infer",
        "predict",
        "--model",
        model,
        "--runtime",
        "tflite-runtime",
        images,
        cwd=folder,
    )
    assert done.returncode == 1
    assert "Error: tflite-runtime was built for NumPy 1, but NumPy 2." in done.stderr
    assert "pip install 'numpy<2'" in done.stderr
    assert done.stdout == ""
