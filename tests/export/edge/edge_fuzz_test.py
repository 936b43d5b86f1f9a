"""Corrupt models end in a prediction or a clear error, never in a hang or a crash.

Each batch runs in a subprocess, where a crash of the interpreter is visible. Corruptions are
seeded, so failures repeat. Corrupt images are in `soak/soak_test.py`.
"""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import open_models
from helpers.corruptions import corrupt_model, draw_images, zip_start

from cxr_tfds.export.edge import runtime

pytestmark = pytest.mark.slow

_TIMEOUT_S = 120
_CLI = "from cxr_tfds.export.edge.command import cli; cli(prog_name='cxr-infer')"
_OPEN_MODELS = Path(open_models.__file__)


@pytest.fixture(scope="module")
def images():
    return draw_images()


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )


def test_intact_images(models, images, tmp_path):
    for suffix, content in images.items():
        (tmp_path / f"x.{suffix}").write_bytes(content)
    assert run("-c", _CLI, "predict", "--model", models["int8"], tmp_path).returncode == 0


def run_models(folder, image, name):
    """Returns "prediction" or "error" for each model of a folder, by name."""
    done = run(_OPEN_MODELS, folder, image, name)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{lines[-1:]}: code {done.returncode}, {done.stderr[-2000:]}"
    found = dict(line.split()[:2] for line in lines)
    assert len(found) == len(list(folder.iterdir()))
    return found


@pytest.mark.parametrize("name", runtime.installed_runtimes())
@pytest.mark.parametrize("model", ["int8", "three"])
def test_corrupt_models(models, draw, tmp_path, model, name):
    """An error for each of 400 corrupt files whose flatbuffer has changed, and no crash."""
    rng = np.random.default_rng(3)
    content = models[model].read_bytes()
    folder = tmp_path / "models"
    folder.mkdir()
    for number in range(200):
        for kind, data in corrupt_model(content, rng).items():
            (folder / f"{kind}-{number:03}.tflite").write_bytes(data)
    (folder / "intact.tflite").write_bytes(content)
    outcomes = run_models(folder, draw("x.png", 120), name)
    assert outcomes.pop("intact.tflite") == "prediction"
    of_flatbuffer = [outcomes[path] for path in outcomes if not path.startswith("zip")]
    assert of_flatbuffer == ["error"] * 400
    of_zip = [outcomes[path] for path in outcomes if path.startswith("zip")]
    assert of_zip.count("error") > 150  # others changed bytes that nothing reads


@pytest.mark.parametrize("name", runtime.installed_runtimes())
def test_truncated_models(models, draw, tmp_path, name):
    """An error for each of 100 model files and 100 raw flatbuffers cut short, and no crash."""
    content = models["int8"].read_bytes()
    flatbuffer = content[: zip_start(content)]
    folder = tmp_path / "models"
    folder.mkdir()
    for kind, data in (("file", content), ("raw", flatbuffer)):
        for number, length in enumerate(np.linspace(0, len(data) - 1, 100).astype(int)):
            (folder / f"{kind}-{number:03}.tflite").write_bytes(data[:length])
    (folder / "raw-complete.tflite").write_bytes(flatbuffer)
    outcomes = run_models(folder, draw("x.png", 120), name)
    assert list(outcomes.values()) == ["error"] * 201


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"size":' + "9" * 5_000 + "}",
        "null",
        "\ufeff{}",
        '{"format": 1e999}',
        "\0" * 1_000,
    ],
)
def test_invalid_model_json(models, draw, tmp_path, text):
    content = models["int8"].read_bytes()
    buffer = io.BytesIO(content[: zip_start(content)])
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("labels.txt", "NORMAL\nPNEUMONIA\n")
        archive.writestr("model.json", text)
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "x.tflite").write_bytes(buffer.getvalue())
    assert run_models(folder, draw("x.png", 120), "auto") == {"x.tflite": "error"}
