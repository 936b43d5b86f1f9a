"""The stress test on models that rely on a known property."""

import numpy as np
import pytest

from cxr_tfds.evaluation import stress
from cxr_tfds.evaluation.conditions import CONDITIONS, MODERATE, STRENGTHS
from cxr_tfds.evaluation.scoring import ImageSample, Scores
from cxr_tfds.evaluation.stress import (
    _verdict,
    format_stress_table,
    run_stress_test,
    score_stressed_copies,
    stressed_logits,
    within_budget,
)
from cxr_tfds.metrics.ranking import auc
from cxr_tfds.metrics.resampling import bootstrap_weights


class Brightness:
    """Scores an image by the grey value of its middle, which mainly exposure changes."""

    def __init__(self, centre=100.0, classes=2):
        self.centre, self.classes = centre, classes

    def predict_on_batch(self, images):
        value = (images[:, 8:-8, 8:-8].mean(axis=(1, 2, 3)) - self.centre) / 10
        return value[:, None] if self.classes == 2 else np.stack([-value, 0 * value, value], axis=1)


def images(count=80, side=32, seed=0):
    """Images with a black border, brighter in the middle for class 1, and their labels."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    whole = np.zeros((count, side, side, 1))
    whole[:, 6:-6, 6:-6] = (92 + 16 * labels + generator.normal(0, 6, count))[:, None, None, None]
    return np.clip(whole, 0, 255).astype(np.uint8), labels


def scored(model, pixels, labels):
    logits = model.predict_on_batch(pixels).squeeze()
    ids = [str(number) for number in range(len(labels))]
    return Scores(ids, [f"p{number // 2}" for number in range(len(labels))], labels, logits)


@pytest.fixture(scope="module")
def table():
    pixels, labels = images()
    model = Brightness()
    return run_stress_test(
        model, scored(model, pixels, labels), ImageSample(np.arange(80), pixels), 0.5
    )


def test_measures_every_condition_at_every_strength(table):
    assert [(row["condition"], row["strength"]) for row in table["rows"]] == [
        (condition.name, strength) for condition in CONDITIONS for strength in STRENGTHS
    ]
    assert table["images"] == 80
    moderate = [row["auc"] for row in table["rows"] if row["strength"] == MODERATE]
    assert table["moderate"]["auc"] == pytest.approx(np.mean(moderate))
    assert table["moderate"]["difference"] == pytest.approx(
        np.mean(moderate) - table["clean"]["auc"]
    )
    for row in table["rows"]:
        assert row["drop"]["value"] == pytest.approx(table["clean"]["auc"] - row["auc"])


def test_interval_of_a_drop_is_paired_and_by_patient(table):
    pixels, labels = images()
    model, condition = Brightness(), CONDITIONS[3]
    clean, changed = (
        model.predict_on_batch(pixels)[:, 0],
        stressed_logits(model, ImageSample(np.arange(80), pixels), condition, "severe"),
    )
    drops = []
    for weights in np.concatenate(list(bootstrap_weights(np.arange(80) // 2, 500, seed=0))):
        places = np.repeat(np.arange(80), weights.astype(int))
        drops.append(auc(labels[places], clean[places]) - auc(labels[places], changed[places]))
    row = next(
        row
        for row in table["rows"]
        if (row["condition"], row["strength"]) == (condition.name, "severe")
    )
    low, high = np.percentile(drops, [2.5, 97.5])
    assert low < row["drop"]["value"] < high
    assert [row["drop"]["low"], row["drop"]["high"]] == pytest.approx([low, high])


def test_row_holds_metrics_of_the_changed_images(table):
    pixels, labels = images()
    condition = CONDITIONS[3]
    logits = stressed_logits(Brightness(), ImageSample(np.arange(80), pixels), condition, "severe")
    row = next(
        row
        for row in table["rows"]
        if (row["condition"], row["strength"]) == (condition.name, "severe")
    )
    assert row["auc"] == auc(labels, logits)
    assert row["specificity"] == (logits[labels == 0] < 0).mean()
    assert row["sensitivity"] == (logits[labels == 1] >= 0).mean()
    assert row["accuracy"] == ((logits >= 0) == labels).mean()


def test_measures_only_the_given_strengths():
    pixels, labels = images(12)
    model = Brightness()
    found = run_stress_test(
        model,
        scored(model, pixels, labels),
        ImageSample(np.arange(12), pixels),
        0.5,
        (MODERATE,),
    )
    assert {row["strength"] for row in found["rows"]} == {MODERATE}
    assert len(found["rows"]) == len(CONDITIONS)


def test_measures_only_the_sample():
    pixels, labels = images(40)
    model, places = Brightness(), np.arange(5, 25)
    found = run_stress_test(
        model, scored(model, pixels, labels), ImageSample(places, pixels[places]), 0.5, (MODERATE,)
    )
    assert found["images"] == 20
    assert found["clean"]["auc"] == auc(
        labels[places], model.predict_on_batch(pixels[places])[:, 0]
    )


def test_a_slow_model_is_tested_with_a_sample(monkeypatch, capsys):
    pixels, labels = images(100)
    labels = np.where(np.arange(100) < 20, 1, 0)
    model = Brightness()
    scores, everything = scored(model, pixels, labels), ImageSample(np.arange(100), pixels)
    monkeypatch.setattr(stress, "multiply_adds", lambda model: 100)
    assert within_budget(model, scores, everything) is everything
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(stress, "multiply_adds", lambda model: 7.99e9)  # 0.2 s an image
    few = within_budget(model, scores, everything, (MODERATE,))
    assert len(few.images) == 60
    assert labels[few.indices].sum() == 12
    np.testing.assert_array_equal(few.images, pixels[few.indices])
    assert capsys.readouterr().err == (
        "stress test with 60 of 100 images, drawn at random by class: more would take longer than "
        "about 2 minutes on 2 cores\n"
    )
    assert len(within_budget(model, scores, everything).images) == 40  # the fewest
    found = run_stress_test(model, scores, few, 0.5, (MODERATE,))
    assert (found["images"], found["split_images"]) == (60, 100)
    assert "Measured on 60 of 100 images, drawn at random by class" in found["verdict"]


class Corner:
    """Scores an image by its upper left corner, so it relies on the edge."""

    def predict_on_batch(self, pixels):
        return (pixels[:, 0, 0].mean(axis=1) / 50 - 1)[:, None]


def test_verdict_names_what_the_model_relies_on():
    labels = np.arange(60) % 2
    pixels = np.full((60, 40, 40, 1), 60, np.uint8)
    pixels[:, 0, 0] = np.where(labels, 120, 10)[:, None]
    model = Corner()
    found = run_stress_test(
        model, scored(model, pixels, labels), ImageSample(np.arange(60), pixels), 0.5, (MODERATE,)
    )
    worst = max(found["rows"], key=lambda row: row["drop"]["value"])
    assert worst["condition"] in ("shift", "rotation", "crop")
    condition = {condition.name: condition for condition in CONDITIONS}[worst["condition"]]
    assert found["verdict"].startswith(
        f"The model relies most on {condition.relies_on}: {condition.name} at moderate strength "
        f"({condition.format_amount(MODERATE)}) lowers the AUC from 1.000 to {worst['auc']:.3f}. "
        f"Typical causes are {condition.causes}. Averaged over all conditions"
    )


def test_verdict_of_a_drop_that_may_be_chance(table):
    drop = {"value": 0.03, "low": -0.06, "high": 0.12}
    rows = [row | {"drop": drop, "auc": table["clean"]["auc"] - 0.03} for row in table["rows"]]
    said = _verdict(table | {"rows": rows})
    assert said.startswith(
        "There are too few images to show which image property the model relies on. The largest "
        "drop of the AUC is 0.030 (95% CI -0.060 to 0.120), under "
    )


def test_verdict_of_a_robust_model(table):
    moderate = [row for row in table["rows"] if row["strength"] == MODERATE]
    worst = max(moderate, key=lambda row: row["drop"]["value"])
    clean = table["clean"]
    expected = (
        "No condition at moderate strength lowers the AUC by 0.01 or more. The largest drop is "
        f"{worst['drop']['value']:.3f}, under {worst['condition']} at moderate strength "
        f"({worst['written']}). Averaged over all conditions at moderate strength, the AUC is "
        f"{table['moderate']['auc']:.3f} ({table['moderate']['difference']:+.3f} from the original "
        "images)."
    )
    for name in ("sensitivity", "specificity"):
        lowest = min(moderate, key=lambda row: row[name])
        assert lowest[name] < clean[name]
        expected += (
            f" {name.capitalize()} falls from {clean[name]:.1%} to {lowest[name]:.1%} under "
            f"{lowest['condition']}."
        )
    assert table["verdict"] == expected


@pytest.mark.parametrize(
    ("rate", "sentence"),
    [
        (0.9, "Sensitivity does not fall below 90.0%."),
        (0.0, "Sensitivity is 0.0% on the original images, too."),
    ],
)
def test_verdict_of_decisions_that_never_get_worse(table, rate, sentence):
    rows = [{**row, "sensitivity": rate} for row in table["rows"]]
    clean = {**table["clean"], "sensitivity": rate}
    assert sentence in _verdict({**table, "clean": clean, "rows": rows})


def test_one_class_has_no_auc():
    pixels, _ = images(6)
    model, labels = Brightness(), np.ones(6, np.int64)
    found = run_stress_test(
        model, scored(model, pixels, labels), ImageSample(np.arange(6), pixels), 0.5, (MODERATE,)
    )
    assert (found["clean"]["auc"], found["clean"]["specificity"]) == (None, None)
    assert "drop" not in found["rows"][0]
    assert "moderate" not in found
    assert found["verdict"].startswith("All images belong to one class: without an AUC,")
    first = format_stress_table(found).splitlines()[1].split()
    assert first == ["original", "images", "-", *[f"{found['clean']['accuracy']:.4f}"] * 2, "-"]


def test_three_classes():
    pixels, labels = images(30)
    labels = np.where(labels, 2, np.arange(30) % 4 // 2)  # 0 and 1 are told apart by nothing
    model = Brightness(classes=3)
    scores = scored(model, pixels, labels)
    found = run_stress_test(model, scores, ImageSample(np.arange(30), pixels), None, (MODERATE,))
    one_against_rest = [auc(labels == k, scores.probabilities[:, k]) for k in range(3)]
    assert found["clean"]["auc"] == pytest.approx(np.mean(one_against_rest))
    predicted = scores.logits.argmax(axis=1)
    assert found["clean"]["sensitivity"] == (predicted[labels > 0] > 0).mean()
    assert found["clean"]["specificity"] == (predicted[labels == 0] == 0).mean()


def test_text_has_a_line_for_each_row(table):
    lines = format_stress_table(table).splitlines()
    assert lines[-1] == table["verdict"]
    rows = [line.split() for line in lines[2:-2]]
    assert len(rows) == len(table["rows"])
    for cells, row in zip(rows, table["rows"], strict=True):
        drop = row["drop"]
        assert " ".join(cells) == (
            f"{row['condition']} {row['strength']} {row['auc']:.4f} "
            f"{drop['value']:+.4f} ({drop['low']:+.4f} to {drop['high']:+.4f}) "
            f"{row['accuracy']:.4f} {row['sensitivity']:.4f} {row['specificity']:.4f} "
            f"{row['written']}"
        )


def test_copies_are_the_originals_and_each_condition_and_strength():
    pixels, labels = images(20)
    model = Brightness()
    scores = scored(model, pixels, labels)._replace(temperature=2.0)
    repeated, values = score_stressed_copies(model, scores, ImageSample(np.arange(20), pixels))
    assert len(values) == len(repeated) == 20 * (len(CONDITIONS) * len(STRENGTHS) + 1)
    np.testing.assert_array_equal(values[:20], scores.probabilities)
    np.testing.assert_array_equal(repeated[20:40], labels)
