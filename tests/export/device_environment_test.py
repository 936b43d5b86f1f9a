"""The device environment that `make` installs from the wheel: tflite-runtime, and no TensorFlow."""

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_tfds.parallel import core_count

ROOT = Path(__file__).parents[2]
DEVICE = ROOT / ".venv-edge" / "bin"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DEVICE.is_dir(), reason=f"no {DEVICE}: `make test` creates it"),
]


def device(command, *arguments, cwd):
    return subprocess.run(
        [str(DEVICE / command), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


def python(code, *arguments, cwd):
    done = device("python", "-c", code, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_environment_has_no_tensorflow(tmp_path):
    code = """
import importlib.metadata, json
print(json.dumps(sorted(d.metadata["Name"].lower() for d in importlib.metadata.distributions())))
"""
    found = set(python(code, cwd=tmp_path)) - {"pip", "setuptools"}
    assert found == {"cxr-tfds", "click", "msgspec", "numpy", "pillow", "tflite-runtime"}


def test_code_of_the_wheel_is_this_code(tmp_path):
    code = """
import cxr_tfds, hashlib, json, pathlib
root = pathlib.Path(cxr_tfds.__file__).parent
digest = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()
print(json.dumps({path.relative_to(root).as_posix(): digest(path) for path in root.rglob("*.py")}))
"""
    installed = python(code, cwd=tmp_path)
    for inside, folder in {"": "cxr_tfds", "export/": "export"}.items():
        for path in (ROOT / folder).rglob("*.py"):
            name = inside + path.relative_to(ROOT / folder).as_posix()
            assert installed[name] == hashlib.sha256(path.read_bytes()).hexdigest(), (
                f"{name}: run make again"
            )


@pytest.mark.parametrize("quantization", ["int8", "float32"])
def test_predict_agrees_with_the_export(exported, phantom, tmp_path, quantization):
    model = exported / f"tiny-{quantization}.tflite"
    done = device(
        "cxr-infer",
        "predict",
        "--json",
        "--model",
        model,
        phantom / "chest_xray" / "test",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    predictions = {Path(a["file"]): a for a in json.loads(done.stdout)}
    assert len(predictions) == 40
    truths = np.array([path.parent.name == "PNEUMONIA" for path in predictions])
    decided = np.array([one["label"] == "PNEUMONIA" for one in predictions.values()])
    for one in predictions.values():
        is_positive = one["probabilities"]["PNEUMONIA"] >= one["rule"]["threshold"]
        assert is_positive == (one["label"] == one["rule"]["class"] == "PNEUMONIA")
    files = {
        file["quantization"]: file
        for file in json.loads((exported / "export.json").read_text())["files"]
    }
    # The export compared it in LiteRT. Other kernels may decide one image near the threshold
    # differently.
    at_export = round(40 * files[quantization]["comparisons"]["test"]["accuracy"])
    assert abs((truths == decided).sum() - at_export) <= 1


def test_evaluate_and_info(exported, phantom, tmp_path):
    model = exported / "tiny-int8.tflite"
    done = device(
        "cxr-infer",
        "evaluate",
        "--json",
        "--model",
        model,
        phantom / "chest_xray" / "test",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    assert table["images"] == 40
    assert table["auc"]["low"] <= table["auc"]["value"] <= table["auc"]["high"]
    facts = json.loads(device("cxr-infer", "info", "--json", "--model", model, cwd=tmp_path).stdout)
    assert facts["labels"] == ["NORMAL", "PNEUMONIA"]
    assert facts["size"] == 64
    assert facts["threshold"] == table["threshold"]


def test_predict_needs_less_than_80_mb(exported, phantom, tmp_path):
    image = next((phantom / "chest_xray" / "test" / "NORMAL").iterdir())
    code = """
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(json.dumps(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
"""
    command = (DEVICE / "cxr-infer", "predict", "--model", exported / "tiny-int8.tflite", image)
    assert python(code, *command, cwd=tmp_path) < 80 * 1024


def test_benchmark_and_heatmaps(exported, phantom, tmp_path):
    done = device(
        "cxr-infer", "benchmark", "--json", "--model", exported / "tiny-int8.tflite", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["threads"] for row in rows] == list(range(1, core_count() + 1))
    for row in rows:
        assert row["runtime"] == "tflite-runtime"
        assert 0 < row["median_ms"] <= row["p95_ms"]
        assert 20 < row["peak_mb"] < 80
    model, images = exported / "tiny-int8.tflite", phantom / "chest_xray" / "test" / "NORMAL"
    done = device(
        "cxr-infer",
        "predict",
        "--csv",
        "--heatmap-dir",
        "maps",
        "--model",
        model,
        images,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    written = sorted((tmp_path / "maps").iterdir())
    assert [path.name[7:-4] for path in written] == sorted(path.name for path in images.iterdir())
    with Image.open(written[0]) as image:
        assert image.mode == "RGB"


def test_extras_named_in_messages_exist(tmp_path):
    """cxr-tfds is on no index, so pip takes the installed one and its extras."""
    extras = "cxr-tfds[dask,dicom,edge,tflite-runtime,train]"
    done = device("pip", "install", "--dry-run", "--no-index", "--no-deps", extras, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"Requirement already satisfied: {extras}" in done.stdout
    assert "does not provide the extra" not in done.stdout + done.stderr


def test_training_commands_name_the_missing_extra(built, phantom, tmp_path):
    dataset = ("--dataset", "chest_xray_pneumonia/64", "--data-dir", built)
    for command, arguments in {
        "cxr-train": (*dataset, "--out", tmp_path / "run"),
        "cxr-data": ("build", phantom, "--data-dir", tmp_path / "data"),
    }.items():
        done = device(command, *arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert "pip install 'cxr-tfds[train]'" in done.stderr
        assert "Traceback" not in done.stderr


def test_device_pixels_equal_the_records(phantom, shared_or_none, tmp_path):
    """Bit for bit, on JPEG, PNG, RGB and RGBA, with real files if there are some."""
    import tensorflow_datasets as tfds
    from helpers.splits import load_split

    from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
    from cxr_tfds.building.config import RadiographConfig
    from cxr_tfds.reading.datasets import open_dataset
    from cxr_tfds.reading.names import DatasetName

    folder = tmp_path / "chest_xray" / "train"
    sources = sorted((phantom / "chest_xray" / "train").glob("*/*"))[:8] + shared_or_none
    for number, source in enumerate(sources):
        target = folder / ("NORMAL", "PNEUMONIA")[number % 2]
        target.mkdir(parents=True, exist_ok=True)
        (target / f"IM-{number:04}-0001{source.suffix}").write_bytes(source.read_bytes())
    rng = np.random.default_rng(0)
    for number, (mode, channels) in enumerate({"RGB": 3, "RGBA": 4, "LA": 2}.items()):
        pixels = rng.integers(0, 256, (301, 257, channels), dtype=np.uint8)
        image = Image.fromarray(pixels)
        assert image.mode == mode
        image.save(folder / "NORMAL" / f"IM-9{number:03}-0001.png")
    builder = Builder(
        data_dir=tmp_path / "data", config=RadiographConfig(name="source", split="source")
    )
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=tmp_path))
    examples = load_split(
        open_dataset(DatasetName.parse("chest_xray_pneumonia/source"), tmp_path / "data"), "train"
    )
    written = {
        image_id: hashlib.sha256(image.tobytes()).hexdigest()
        for image_id, image in zip(examples.image_ids, examples.images, strict=True)
    }
    code = """
import hashlib, json, pathlib, sys
from cxr_tfds.imaging.pixels import radiograph
root = pathlib.Path(sys.argv[1])
digests = {}
for path in root.glob("*/*"):
    pixels = radiograph(path.read_bytes(), 224).pixels
    name = "train/" + path.relative_to(root).as_posix()
    digests[name] = hashlib.sha256(pixels.tobytes()).hexdigest()
print(json.dumps(digests))
"""
    assert python(code, folder, cwd=tmp_path) == written
    assert len(written) == len(sources) + 3
