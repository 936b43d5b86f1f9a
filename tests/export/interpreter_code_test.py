"""The Python printed for exported files gives the probabilities of `Classifier`."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.interpreter_code import write_code
from cxr_tfds.export.edge.model_file import read_model
from cxr_tfds.export.edge.runtime import load

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("exported", "tiny-int8"),
        ("exported", "tiny-float32"),
        ("exported_rgb", "tiny-int8-rgb"),
        ("exported_rgb", "tiny-float32-rgb"),
        ("exported_findings", "several-int8"),
        ("exported_findings", "several-int8-rgb"),
    ],
)
def test_code_gives_the_probabilities(
    folder: str,
    name: str,
    phantom: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    model = request.getfixturevalue(folder) / f"{name}.tflite"
    flatbuffer, info, _ = read_model(model)
    image = next(phantom.glob("chest_xray/test/PNEUMONIA/*.jpeg"))
    (tmp_path / "image.jpeg").symlink_to(image)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(write_code(model, info, load(flatbuffer, "litert")), {})
    found = ast.literal_eval(capsys.readouterr().out)
    scores = Classifier(model, runtime="litert")(image).probabilities
    expected = {label: scores[label] for label in found}
    assert found == pytest.approx(expected, abs=1e-6)
    assert set(info.labels) - set(found) <= {"NORMAL"}
