"""MediaPipe Tasks' ImageClassifier opens the files of `--variant rgb`.

MediaPipe gets an environment of its own, because it needs its own NumPy and interpreter.
"""

import json
import os
import subprocess
import venv

import pytest
from PIL import Image

from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.imaging.pixels import radiograph
from cxr_tfds.metrics.logits import logit, sigmoid

pytestmark = pytest.mark.slow


def run(*command):
    quiet = {"GLOG_minloglevel": "2"}
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env=os.environ | quiet,
        check=False,
    )


@pytest.fixture(scope="module")
def mediapipe(install, tmp_path_factory):
    """Returns Python of an environment with MediaPipe, without 300 MB of drawing and recording."""
    folder = tmp_path_factory.mktemp("mediapipe")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    install(python, "--no-deps", "mediapipe", "absl-py", "certifi", "flatbuffers", "numpy")
    if (tried := run(python, "-c", _IMPORT)).returncode:
        pytest.skip(f"mediapipe cannot be imported here: {tried.stderr.strip().splitlines()[-1]}")
    return python


@pytest.fixture(scope="module")
def images(phantom, shared_or_none, tmp_path_factory):
    """Returns a folder of fitted radiographs as PNG, with real ones if there are some."""
    folder = tmp_path_factory.mktemp("images")
    drawn = sorted((phantom / "chest_xray" / "test").glob("*/*"))[::2]
    for number, path in enumerate([*drawn, *shared_or_none]):
        pixels = radiograph(path.read_bytes(), 64).pixels
        Image.fromarray(pixels[..., 0]).convert("RGB").save(folder / f"{number:02}.png")
    return folder


_IMPORT = """
import json, pathlib, sys
from unittest.mock import MagicMock
sys.modules |= dict.fromkeys(("cv2", "matplotlib", "matplotlib.pyplot", "sounddevice"), MagicMock())
import mediapipe
from mediapipe.tasks.metadata import metadata_schema_py_generated as schema
from mediapipe.tasks.python import BaseOptions, vision
"""
_CLASSIFY = """
model, images = map(pathlib.Path, sys.argv[1:])
options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(model)))
with vision.ImageClassifier.create_from_options(options) as classifier:
    found = {}
    for path in images.iterdir():
        (head,) = classifier.classify(mediapipe.Image.create_from_file(str(path))).classifications
        found[path.name] = [(one.category_name, one.score) for one in head.categories]
content = pathlib.Path(sys.argv[1]).read_bytes()
place = content.index(b"M001") - 4
root = schema.ModelMetadata.GetRootAsModelMetadata(content, place)
graph = root.SubgraphMetadata(0)
image, output = graph.InputTensorMetadata(0), graph.OutputTensorMetadata(0)
properties, options = schema.ImageProperties(), schema.NormalizationOptions()
properties.Init(image.Content().ContentProperties().Bytes, image.Content().ContentProperties().Pos)
unit = image.ProcessUnits(0)
options.Init(unit.Options().Bytes, unit.Options().Pos)
names = lambda kinds: {value: name for name, value in vars(kinds).items() if isinstance(value, int)}
print(json.dumps({
    "probabilities": found,
    "content": names(schema.ContentProperties)[image.Content().ContentPropertiesType()],
    "colours": names(schema.ColorSpaceType)[properties.ColorSpace()],
    "unit": names(schema.ProcessUnitOptions)[unit.OptionsType()],
    "mean": options.MeanAsNumpy().tolist(),
    "std": options.StdAsNumpy().tolist(),
    "range": [image.Stats().MinAsNumpy().tolist(), image.Stats().MaxAsNumpy().tolist()],
    "file": output.AssociatedFiles(0).Name().decode(),
    "kind": names(schema.AssociatedFileType)[output.AssociatedFiles(0).Type()],
}))
"""


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_decides_like_the_device(mediapipe, exported_rgb, images, kind):
    """The class with the highest score is the decision: the file shifts its probabilities."""
    file = exported_rgb / f"tiny-{kind}-rgb.tflite"
    done = run(mediapipe, "-c", _IMPORT + _CLASSIFY, file, images)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["content"], facts["colours"], facts["unit"]) == (
        "ImageProperties",
        "RGB",
        "NormalizationOptions",
    )
    assert (facts["mean"], facts["std"], facts["range"]) == ([0], [1], [[0], [255]])
    assert (facts["file"], facts["kind"]) == ("labels.txt", "TENSOR_AXIS_LABELS")
    model = Classifier(file)
    assert len(facts["probabilities"]) == len(list(images.iterdir())) >= 20
    scores = []
    for name, categories in facts["probabilities"].items():
        own = model(images / name)
        assert categories[0][0] == own.label
        found = dict(categories)
        assert (found["PNEUMONIA"] >= 0.5) == (own.label == "PNEUMONIA")
        shifted = logit(own.probability) - model.info.shift
        assert found["PNEUMONIA"] == pytest.approx(float(sigmoid(shifted)), abs=1e-4)
        assert sum(found.values()) == pytest.approx(1, abs=1e-5)
        scores.append(found["PNEUMONIA"])
    assert min(scores) < 0.5 < max(scores)


def test_decides_each_finding_like_the_device(mediapipe, exported_findings, images):
    """They do not add up to 1: an image may have several findings."""
    # Not int8: where kernels round differently, a score is one step away.
    file = exported_findings / "several-float32-rgb.tflite"
    done = run(mediapipe, "-c", _IMPORT + _CLASSIFY, file, images)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["file"], facts["kind"]) == ("labels.txt", "TENSOR_AXIS_LABELS")
    model = Classifier(file)
    for name, categories in facts["probabilities"].items():
        own, found = model(images / name).findings, dict(categories)
        assert len(own) == len(found) == 3
        for finding, shift in zip(own, model.info.shift, strict=True):
            shifted = logit(finding.probability) - shift
            assert found[finding.name] == pytest.approx(float(sigmoid(shifted)), abs=1e-4)
            assert (found[finding.name] >= 0.5) == finding.is_present
