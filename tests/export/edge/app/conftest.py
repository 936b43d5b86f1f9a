"""Models without an interpreter: their logits follow from the mean grey value."""

import dataclasses

import numpy as np
import pytest

from cxr_tfds.errors import BadImage
from cxr_tfds.export.edge.prediction import FindingPrediction, Prediction
from cxr_tfds.imaging.pixels import decode
from cxr_tfds.metrics.logits import sigmoid, softmax

# Of 15 bins: the lowest has 100 images, the highest 40, the one of 50 % has 3.
COUNTS = {
    "images": [100, *[0] * 6, 3, *[0] * 6, 40],
    "positives": [2, *[0] * 6, 1, *[0] * 6, 40],
}


class GreyClassifier:
    """Has the interface of `Classifier` that the page uses."""

    def __init__(self, info):
        self.info, self.labels = info, info.labels

    def decode(self, data):
        return decode(data, self.info.size, fit=self.info.fit)

    def predict(self, pixels):
        logit = (float(pixels.mean()) - 100) / 10
        heatmap = np.eye(4, dtype=np.float32) if self.info.heatmap else None
        if self.info.several_findings:
            findings = tuple(
                FindingPrediction(name, value, 0.5, value >= 0.5, heatmap)
                for name, value in zip(self.labels, sigmoid([logit, -logit]).tolist(), strict=True)
            )
            label = "|".join(x.name for x in findings if x.is_present)
            by_name = {x.name: x.probability for x in findings}
            return Prediction(max(by_name.values()), label, None, by_name, findings=findings)
        if len(self.labels) == 2:
            value = float(sigmoid(np.array(logit)))
            label = self.labels[value >= self.info.threshold]
            by_name = dict(zip(self.labels, [1 - value, value], strict=True))
            return Prediction(value, label, self.info.threshold, by_name, heatmap)
        values = softmax(np.array([-logit, 0, logit])).tolist()
        best = int(np.argmax(values))
        by_name = dict(zip(self.labels, values, strict=True))
        return Prediction(values[best], self.labels[best], None, by_name, heatmap)


@pytest.fixture(scope="session")
def two(info):
    """A model of two classes with heat maps."""
    info = dataclasses.replace(
        info, threshold=0.3, heatmap=True, grid=(4, 4), reliability={"PNEUMONIA": COUNTS}
    )
    return GreyClassifier(info)


@pytest.fixture(scope="session")
def three(info):
    """A model of three classes without heat maps."""
    names = ("NORMAL", "BACTERIA", "VIRUS")
    info = dataclasses.replace(
        info, labels=names, threshold=None, reliability=dict.fromkeys(names, COUNTS)
    )
    return GreyClassifier(info)


@pytest.fixture(scope="session")
def findings(info):
    """A model of two findings with heat maps."""
    info = dataclasses.replace(
        info,
        labels=("Bright", "Dark"),
        several_findings=True,
        threshold=(0.5, 0.5),
        temperature=(1.0, 1.0),
        heatmap=True,
        grid=(4, 4),
    )
    return GreyClassifier(info)


@pytest.fixture
def png(draw):
    """Returns the contents of a PNG file of one grey value."""

    def contents(grey, size=(48, 40)):
        return draw("x.png", grey, size=size).read_bytes()

    return contents


@pytest.fixture
def bad():
    """An error as `cxr-infer predict` reports it."""
    return BadImage("empty file (0 bytes)")
