"""The sentences of the page."""

import dataclasses

import numpy as np
import pytest

from cxr_tfds.export.edge.app import uploads, wording


@pytest.mark.parametrize(
    ("probability", "sentence"),
    [
        (
            0.0,
            "In the validation set, 2 of 100 images with a probability from 0 % to 7 % had the "
            "label PNEUMONIA (2%, 95% CI 1% to 7%).",
        ),
        (
            1.0,
            "In the validation set, 40 of 40 images with a probability from 93 % to 100 % had "
            "the label PNEUMONIA (100%, 95% CI 91% to 100%).",
        ),
        (
            0.5,
            "Only 3 images of the validation set have a probability from 47 % to 53 %; 1 of them "
            "had the label PNEUMONIA.",
        ),
        (
            0.3,
            "No image of the validation set has a probability from 27 % to 33 %: there is nothing "
            "to compare with.",
        ),
    ],
)
def test_reading_of_a_probability(two, probability, sentence):
    assert wording.explain_probability(two.info, "PNEUMONIA", probability) == sentence


def test_reading_of_a_single_image(two):
    counts = {"images": [0, 1], "positives": [0, 1]}
    info = dataclasses.replace(two.info, reliability={"PNEUMONIA": counts})
    assert wording.explain_probability(info, "PNEUMONIA", 0.9) == (
        "Only 1 image of the validation set has a probability from 50 % to 100 %; 1 of them had "
        "the label PNEUMONIA."
    )


def test_files_from_before_the_counts_have_no_reading(info):
    sentence = wording.explain_probability(info, "PNEUMONIA", 0.9)
    assert sentence.startswith("The model file does not state what such a probability meant")
    assert sentence.endswith("Export its run again with cxr-export.")


def test_counts_of_outcomes(two, png):
    images = {"a": png(120), "b": png(60), "c": png(130), "d": b""}
    results = [uploads.predict(two, *item) for item in images.items()]
    assert wording.count_outcomes(results) == "4 images: 2 PNEUMONIA, 1 NORMAL, 1 not usable"
    assert wording.count_outcomes(results[:1]) == "1 image: 1 PNEUMONIA"


def test_counts_of_findings(findings, png):
    results = [uploads.predict(findings, name, png(grey)) for name, grey in [("a", 120), ("b", 99)]]
    both = uploads.with_thresholds(results[0], {"Bright": 0.1, "Dark": 0.1})
    none = uploads.with_thresholds(results[0], {"Bright": 1.0, "Dark": 1.0})
    assert wording.count_outcomes([both, results[1]]) == "2 images: 2 Dark, 1 Bright"
    assert wording.count_outcomes([none]) == "1 image: no finding"


def test_labels_of_findings(findings, png):
    result = uploads.predict(findings, "a", png(120))
    assert wording.describe_label(result.outcome) == "Bright"
    both = uploads.with_thresholds(result, {"Bright": 0.1, "Dark": 0.1})
    assert wording.describe_label(both.outcome) == "Bright, Dark"
    none = uploads.with_thresholds(result, {"Bright": 1.0, "Dark": 1.0})
    assert wording.describe_label(none.outcome) == "no finding"


def test_facts_leave_out_what_is_unknown(info):
    facts = dict(wording.list_facts(info))
    assert facts["On test"] == "AUC 0.970"
    assert "Network" not in facts
    assert facts["Classes"] == "NORMAL, PNEUMONIA"


def test_a_heat_map_may_have_no_evidence():
    assert wording.explain_colours("Mass", np.ones((2, 2))) == "What speaks for Mass"
    assert wording.explain_colours("Mass", np.zeros((2, 2))) == "No region speaks for Mass."
