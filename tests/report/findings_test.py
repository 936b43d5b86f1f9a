"""The parts of a report about several findings an image."""

import keras
import numpy as np
import pytest

from cxr_tfds.evaluation.activation import activation_maps
from cxr_tfds.evaluation.scoring import ImageSample, Scores
from cxr_tfds.imaging.overlay import overlay
from cxr_tfds.metrics.findings import evaluate_findings
from cxr_tfds.models import build_model
from cxr_tfds.plotting import plot_style
from cxr_tfds.report.finding_plots import plot_findings
from cxr_tfds.report.gallery import collect_examples

NAN = np.nan
NAMES = ("a", "b", "c")


def draw(images=12):
    """Scores of three findings: b does not count in the first image, c is never present."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, 64, 64, 1), dtype=np.uint8)
    labels = rng.integers(0, 2, (images, 3)).astype(np.float32)
    labels[0, 1], labels[:, 2] = NAN, 0
    ids = [f"image-{i}" for i in range(images)]
    logits = rng.normal(labels.clip(0), 1).astype(np.float32)
    logits[np.isnan(logits)] = 0
    return Scores(ids, [""] * images, labels, logits), ImageSample(np.arange(images), pixels)


@pytest.mark.slow
def test_examples_show_the_map_of_their_finding():
    scores, sample = draw()
    model = build_model("edge", (64, 64, 1), 3)
    groups, sheets = collect_examples(model, scores, sample, NAMES, (0.5, 0.5, 0.5))
    assert {group.positive for group in groups} == set(NAMES)
    assert len({sheet.name for sheet in sheets}) == len(groups) > 6
    for group in groups:
        number = NAMES.index(group.positive)
        assert group.name.endswith(f"-{number}")
        for example in group.examples:
            index = scores.image_ids.index(example.image_id)
            assert not np.isnan(scores.labels[index, number])
            is_present = bool(scores.labels[index, number])
            state = "present" if is_present else "absent"
            assert example.true_class == f"{group.positive} {state}"
            pixels = sample.images[index]
            np.testing.assert_array_equal(np.asarray(example.images[0]), pixels[..., 0])
            maps = activation_maps(model, pixels[np.newaxis])[0]
            drawn = np.asarray(example.images[1]).astype(int)
            own = np.asarray(overlay(pixels, maps[..., number])).astype(int)
            assert np.abs(drawn - own).max() <= 2
            other = np.asarray(overlay(pixels, maps[..., number - 1])).astype(int)
            assert np.abs(drawn - other).max() > 20


@pytest.mark.slow
def test_only_defined_curves_are_plotted():
    scores, _ = draw()
    table = evaluate_findings(
        scores.labels, scores.probabilities, (0.5,) * 3, scores.patient_ids, names=NAMES
    )
    with plot_style():
        pictures = {picture.name: picture for picture in plot_findings(scores, table, NAMES)}
        assert list(pictures) == ["roc", "precision-recall", "reliability"]
        never = scores._replace(labels=np.zeros_like(scores.labels))
        pictures = plot_findings(never, table, NAMES)
    assert [picture.name for picture in pictures] == ["reliability"]
