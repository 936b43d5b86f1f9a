"""Results of dropped files: predictions, thresholds, CSV and pictures."""

import csv
import io

import numpy as np
import pytest

from cxr_tfds.errors import BadImage
from cxr_tfds.export.edge.app import uploads
from cxr_tfds.imaging.overlay import OPACITY, overlay


def test_a_file_has_a_prediction_or_the_reason_why_not(two, png):
    good = uploads.predict(two, "a.png", png(120))
    assert (good.outcome.label, round(good.outcome.probability, 4)) == ("PNEUMONIA", 0.8808)
    bad = uploads.predict(two, "notes.txt", b"not an image")
    assert bad.outcome.reason.startswith("not an image in a known format (JPEG, PNG")
    assert bad.thumbnail is None


def test_thumbnails_have_the_shape_of_the_file(two, png):
    result = uploads.predict(two, "a.png", png(120, size=(20, 40)))
    assert result.thumbnail.size == (72, 36)


@pytest.mark.parametrize(("threshold", "label"), [(0.1, "PNEUMONIA"), (0.5, "NORMAL")])
def test_another_threshold_changes_the_decision_of_two_classes(two, png, threshold, label):
    result = uploads.predict(two, "a.png", png(95))  # probability 0.38
    changed = uploads.with_thresholds(result, {"PNEUMONIA": threshold}).outcome
    assert (changed.label, changed.threshold) == (label, threshold)
    assert changed.probabilities == result.outcome.probabilities


def test_other_thresholds_change_the_decisions_of_findings(findings, png):
    result = uploads.predict(findings, "a.png", png(95))  # Bright 0.38, Dark 0.62
    assert result.outcome.label == "Dark"
    changed = uploads.with_thresholds(result, {"Bright": 0.3, "Dark": 0.7}).outcome
    assert changed.label == "Bright"
    assert [x.threshold for x in changed.findings] == [0.3, 0.7]


def test_errors_have_no_threshold(two):
    result = uploads.predict(two, "a", b"")
    assert uploads.with_thresholds(result, {"PNEUMONIA": 0.5}) == result


def test_csv_is_that_of_the_command(two, png):
    results = [uploads.predict(two, "a.png", png(120)), uploads.predict(two, "b.png", b"")]
    good, bad = csv.DictReader(io.StringIO(uploads.to_csv(two, results)))
    assert (good["file"], good["label"], good["error"]) == ("a.png", "PNEUMONIA", "")
    assert float(good["probability_PNEUMONIA"]) == results[0].outcome.probability
    assert (bad["file"], bad["label"], bad["error"]) == ("b.png", "", "empty file (0 bytes)")


def test_csv_quotes_file_names(two, png):
    results = [uploads.predict(two, 'a,"b".png', png(120))]
    (row,) = csv.DictReader(io.StringIO(uploads.to_csv(two, results)))
    assert row["file"] == 'a,"b".png'


def test_the_picture_has_the_shape_of_the_file(two, png):
    result = uploads.predict(two, "a.png", png(120, size=(500, 1000)))
    assert uploads.to_picture(two, result).size == (768, 384)


def test_blending_begins_with_the_radiograph_and_reaches_the_overlay(two, png):
    result = uploads.predict(two, "a.png", png(120))
    picture, heatmap = uploads.to_picture(two, result), result.outcome.heatmap
    nothing = uploads.blend(picture, heatmap, "stretch", 0)
    assert np.array_equal(nothing, picture.convert("RGB"))
    usual = uploads.blend(picture, heatmap, "stretch", OPACITY)
    assert np.array_equal(usual, overlay(np.asarray(picture), heatmap))
    full = np.asarray(uploads.blend(picture, heatmap, "stretch", 1))
    assert np.abs(full - 120.0).mean() > np.abs(np.asarray(usual) - 120.0).mean()


def test_drawn_examples_are_readable_and_differ(two):
    results = [uploads.predict(two, *item) for item in uploads.draw_examples().items()]
    assert len({result.data for result in results}) == len(results) == 4
    assert not any(isinstance(result.outcome, BadImage) for result in results)
    assert [max(image.size) for image in uploads.example_thumbnails()] == [144] * 4
