"""The Python that `cxr-infer info` prints gives the probabilities of `cxr-infer predict`."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxr_tfds.export.edge import runtime
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.model_file import append_model_info
from cxr_tfds.phantom.drawing import draw as draw_phantom

pytestmark = pytest.mark.slow


@pytest.fixture
def run_info(infer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable:
    """Draws `image.jpeg` and returns a function that runs the code printed for a model."""
    radiograph = draw_phantom("bacteria", np.random.default_rng(0))
    Image.fromarray(radiograph).save(tmp_path / "image.jpeg", quality=80)
    monkeypatch.chdir(tmp_path)

    def run(model: Path, *, header: str = "# Python that runs the file") -> tuple[dict, dict]:
        printed = infer("info", "--model", model).stdout
        code = printed[printed.index(header) :]
        assert json.loads(infer("info", "--model", model, "--json").stdout)["python"] in code
        _, _, lines = code.rpartition("\n\n")
        assert len(lines.splitlines()) == 6
        capsys.readouterr()
        exec(code, {})
        found = ast.literal_eval(capsys.readouterr().out)
        classifier = Classifier(model, runtime="litert")
        prediction = classifier("image.jpeg")
        return found, dict(zip(classifier.labels, expected_of(prediction), strict=True))

    return run


def expected_of(prediction: Any) -> list[float]:
    scores = prediction.probabilities
    return list(scores.values() if isinstance(scores, dict) else scores)


@pytest.mark.parametrize("name", ["int8", "float32", "dynamic"])
def test_two_classes(models: dict[str, Path], run_info: Callable, name: str) -> None:
    found, expected = run_info(models[name])
    assert found == {"PNEUMONIA": pytest.approx(expected["PNEUMONIA"], abs=1e-6)}
    assert 0 < found["PNEUMONIA"] < 1


def test_three_classes_of_three_channels(models: dict[str, Path], run_info: Callable) -> None:
    found, expected = run_info(models["three"])
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_temperature_and_fit(
    flatbuffers: dict[str, bytes], info: Any, run_info: Callable, tmp_path: Path, fit: str
) -> None:
    model = tmp_path / "fitted.tflite"
    changed = dataclasses.replace(info, fit=fit, temperature=3.7)
    model.write_bytes(append_model_info(flatbuffers["int8"], changed))
    found, expected = run_info(model)
    assert found == {"PNEUMONIA": pytest.approx(expected["PNEUMONIA"], abs=1e-6)}


def test_without_a_runtime_the_code_is_how_to_install_one(
    models: dict[str, Path], infer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "installed_runtimes", lambda: ())
    done = infer("info", "--model", models["int8"])
    assert done.exit_code == 0
    assert "# No runtime is installed. Install one with: pip install" in done.stdout
