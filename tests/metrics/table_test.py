"""Metrics as text, exactly."""

import pytest

from cxr_tfds.metrics.table import class_and_finding_rows, format_metric, format_metrics


def metric(value, low=0.25, high=0.75):
    return {"value": value, "low": low, "high": high}


UNDEFINED = {"value": None, "low": None, "high": None, "undefined": "no image is labelled SICK"}
NO_INTERVAL = {**metric(0.5, None, None), "undefined": "too few patients for an interval"}


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (metric(0.51239), 4, "0.5124 (95% CI 0.2500 to 0.7500)"),
        (metric(0.51239), 2, "0.51 (95% CI 0.25 to 0.75)"),
        (UNDEFINED, 4, "undefined: no image is labelled SICK"),
        (NO_INTERVAL, 3, "0.500 (too few patients for an interval)"),
    ],
)
def test_format_metric(value, digits, expected):
    assert format_metric(value, digits) == expected


def test_two_classes():
    findings = {
        "bacteria": {"sensitivity": metric(0.5), "images": 12},
        "a long name of a finding": {"sensitivity": UNDEFINED, "images": 3},
    }
    classes = {name: {"recall": metric(0.5), "support": 9} for name in ("WELL", "SICK")}
    rates = ("auc", "accuracy", "sensitivity", "specificity", "ppv", "npv", "f1")
    table = {**{name: metric(0.5) for name in rates}, "accuracy": metric(0.25), "classes": classes}
    table |= {"findings": findings, "threshold": 0.61237, "images": 40}
    table |= {"rule": {"class": "SICK", "threshold": 0.61237}}
    assert format_metrics(table).splitlines() == [
        "  accuracy                                0.2500 (95% CI 0.2500 to 0.7500)",
        "  auc                                     0.5000 (95% CI 0.2500 to 0.7500)",
        "  sensitivity (SICK)                      0.5000 (95% CI 0.2500 to 0.7500)",
        "  specificity (WELL)                      0.5000 (95% CI 0.2500 to 0.7500)",
        "  ppv (SICK)                              0.5000 (95% CI 0.2500 to 0.7500)",
        "  npv (WELL)                              0.5000 (95% CI 0.2500 to 0.7500)",
        "  f1 (SICK)                               0.5000 (95% CI 0.2500 to 0.7500)",
        "  sensitivity to bacteria                 0.5000 (95% CI 0.2500 to 0.7500), 12 images",
        "  sensitivity to a long name of a finding undefined: no image is labelled SICK, 3 images",
        "  threshold (SICK)                        0.6124",
        "  images                                  40",
    ]


def test_several_classes_have_recalls_and_no_threshold():
    classes = {name: {"recall": metric(0.5), "support": 7} for name in "ab"}
    findings = {"virus": {"sensitivity": metric(0.25), "images": 2}}
    table = {"accuracy": metric(0.5), "classes": classes, "threshold": None, "images": 14}
    assert format_metrics(table | {"findings": findings}).splitlines() == [
        "  accuracy             0.5000 (95% CI 0.2500 to 0.7500)",
        "  sensitivity to virus 0.2500 (95% CI 0.2500 to 0.7500), 2 images",
        "  recall of a          0.5000 (95% CI 0.2500 to 0.7500), 7 images",
        "  recall of b          0.5000 (95% CI 0.2500 to 0.7500), 7 images",
        "  images               14",
    ]
    assert class_and_finding_rows({"threshold": None}) == []
    assert class_and_finding_rows(table, 1)[0] == (
        "recall of a",
        "0.5 (95% CI 0.2 to 0.8), 7 images",
    )


def test_short_names_are_padded_to_18_characters():
    assert format_metrics({"threshold": None, "images": 3}) == "  images             3"
