"""The stress test: a model that leans on a known property, and what is said of it."""

import numpy as np
import pytest

from cxr_tfds.evaluation.conditions import CONDITIONS, MODERATE, STRENGTHS
from cxr_tfds.evaluation.scoring import Kept, Scores
from cxr_tfds.evaluation.stress import _verdict, as_text, stress, stressed_copies, stressed_logits
from cxr_tfds.metrics.ranking import auc
from cxr_tfds.metrics.resampling import resample


class Brightness:
    """Calls an image by the grey value of its middle: contrast moves it little, exposure much."""

    def __init__(self, centre=100.0, classes=2):
        self.centre, self.classes = centre, classes

    def predict_on_batch(self, images):
        value = (images[:, 8:-8, 8:-8].mean(axis=(1, 2, 3)) - self.centre) / 10
        return value[:, None] if self.classes == 2 else np.stack([-value, 0 * value, value], axis=1)


def images(count=80, side=32, seed=0):
    """Class 1 is brighter in the middle; the border is black."""
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
    return stress(model, scored(model, pixels, labels), Kept(np.arange(80), pixels), 0.5)


def test_every_condition_at_every_strength(table):
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


def test_the_interval_of_a_drop_is_paired_and_drawn_by_patient(table):
    pixels, labels = images()
    model, condition = Brightness(), CONDITIONS[3]
    clean, changed = (
        model.predict_on_batch(pixels)[:, 0],
        stressed_logits(model, pixels, np.arange(80), condition, "severe"),
    )
    drops = []
    for weights in np.concatenate(list(resample(np.arange(80) // 2, 500, seed=0))):
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


def test_a_row_is_what_the_model_says_of_the_changed_images(table):
    pixels, labels = images()
    condition = CONDITIONS[3]
    logits = stressed_logits(Brightness(), pixels, np.arange(80), condition, "severe")
    row = next(
        row
        for row in table["rows"]
        if (row["condition"], row["strength"]) == (condition.name, "severe")
    )
    assert row["auc"] == auc(labels, logits)
    assert row["specificity"] == (logits[labels == 0] < 0).mean()
    assert row["sensitivity"] == (logits[labels == 1] >= 0).mean()
    assert row["accuracy"] == ((logits >= 0) == labels).mean()


def test_only_the_moderate_strength_where_asked_for():
    pixels, labels = images(12)
    model = Brightness()
    said = []
    found = stress(
        model, scored(model, pixels, labels), Kept(np.arange(12), pixels), 0.5, (), said.append
    )
    assert {row["strength"] for row in found["rows"]} == {MODERATE}
    assert len(found["rows"]) == len(CONDITIONS) == len(said)


def test_only_the_kept_images_are_measured():
    pixels, labels = images(40)
    model, places = Brightness(), np.arange(5, 25)
    found = stress(model, scored(model, pixels, labels), Kept(places, pixels[places]), 0.5, ())
    assert found["images"] == 20
    assert found["clean"]["auc"] == auc(
        labels[places], model.predict_on_batch(pixels[places])[:, 0]
    )


class Corner:
    """Calls an image by its upper left corner: it leans on the edge."""

    def predict_on_batch(self, pixels):
        return (pixels[:, 0, 0].mean(axis=1) / 50 - 1)[:, None]


def test_the_verdict_names_what_the_model_leans_on():
    labels = np.arange(60) % 2
    pixels = np.full((60, 40, 40, 1), 60, np.uint8)
    pixels[:, 0, 0] = np.where(labels, 120, 10)[:, None]
    model = Corner()
    found = stress(model, scored(model, pixels, labels), Kept(np.arange(60), pixels), 0.5, ())
    worst = max(found["rows"], key=lambda row: row["drop"]["value"])
    assert worst["condition"] in ("shift", "rotation", "crop")
    leans_on = {condition.name: condition.leans_on for condition in CONDITIONS}[worst["condition"]]
    assert found["verdict"].startswith(
        f"The model leans most on {leans_on}: under {worst['condition']} of moderate"
    )
    assert f"from 1.000 to {worst['auc']:.3f}" in found["verdict"]


def test_a_loss_that_may_be_chance_is_not_called_a_lean(table):
    drop = {"value": 0.03, "low": -0.06, "high": 0.12}
    rows = [row | {"drop": drop, "auc": table["clean"]["auc"] - 0.03} for row in table["rows"]]
    said = _verdict(table | {"rows": rows})
    assert said.startswith(
        "What the model leans on cannot be told from so few images: the AUC drops most under "
    )
    assert "by 0.030, with a 95 % interval from -0.060 to 0.120." in said


def test_the_verdict_of_a_model_that_loses_nothing(table):
    assert table["verdict"].startswith(
        "Under no condition of moderate strength does the AUC drop by 0.01 or more. "
    )
    assert "As for its decisions, specificity" in table["verdict"]


def test_one_class_only():
    pixels, _ = images(6)
    model, labels = Brightness(), np.ones(6, np.int64)
    found = stress(model, scored(model, pixels, labels), Kept(np.arange(6), pixels), 0.5, ())
    assert (found["clean"]["auc"], found["clean"]["specificity"]) == (None, None)
    assert "drop" not in found["rows"][0]
    assert "moderate" not in found
    assert found["verdict"].startswith("With one class only there is no AUC")
    assert as_text(found).count(" - ") >= len(CONDITIONS)


def test_three_classes():
    pixels, labels = images(30)
    labels = np.where(labels, 2, np.arange(30) % 4 // 2)  # 0 and 1 are told apart by nothing
    model = Brightness(classes=3)
    found = stress(model, scored(model, pixels, labels), Kept(np.arange(30), pixels), None, ())
    assert 0.5 < found["clean"]["auc"] < 1
    assert found["clean"]["sensitivity"] is not None


def test_the_text_has_a_line_a_row(table):
    lines = as_text(table).splitlines()
    assert len(lines) == 2 + len(table["rows"]) + 2
    assert lines[-1] == table["verdict"]
    for line, row in zip(lines[2:], table["rows"], strict=False):
        assert line.startswith(f"{row['condition']:<17} {row['strength']}")
        assert f"{row['auc']:.4f}" in line


def test_stressed_copies_hold_the_images_as_they_are_and_once_under_each_condition_and_strength():
    pixels, labels = images(20)
    model = Brightness()
    scores = scored(model, pixels, labels)._replace(temperature=2.0)
    repeated, values = stressed_copies(model, scores, Kept(np.arange(20), pixels))
    assert len(values) == len(repeated) == 20 * (len(CONDITIONS) * len(STRENGTHS) + 1)
    np.testing.assert_array_equal(values[:20], scores.probabilities)
    np.testing.assert_array_equal(repeated[20:40], labels)
